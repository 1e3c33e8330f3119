"""Commands import what they need: torch takes two seconds, which those that only read scores do without."""

import subprocess
import sys

import pytest
from fake_scores import write_fake_scores
from world import ENVIRONMENT, ROOT

import samplewise
import samplewise.data
import samplewise.report

HEAVY = ("torch", "transformers", "accelerate", "datasets", "trl", "peft", "pandas", "scipy", "matplotlib", "ray")
PROGRAM = """
import sys
from samplewise.cli.app import app
try:
    app(sys.argv[1:], prog_name="samplewise")
except SystemExit as done:
    print("imported", *sys.modules)
    raise
"""


@pytest.fixture(scope="module")
def scores(tmp_path_factory):
    return str(write_fake_scores(tmp_path_factory.mktemp("scores"), 300, groups=2))


def imported(*arguments: str, code: int = 0) -> set[str]:
    command = [sys.executable, "-c", PROGRAM, *arguments]
    done = subprocess.run(command, capture_output=True, text=True, cwd=ROOT, env=ENVIRONMENT, timeout=120)
    assert done.returncode == code, done.stderr
    return set(done.stdout.split("imported ")[-1].split())


@pytest.mark.parametrize("arguments", [
    ("--help",), ("--version",), ("rules",), ("score", "--help"), ("report", "{scores}", "--out", "{out}/page.html"),
    ("select", "{scores}", "--rule", "chain(band(drop_top=0.1), random_keep(0.5), top_k(0.9))", "--ids",
     "--tokens", "20k", "--take", "random", "--within", "group", "--out", "{out}/ids.txt"),
    ("select", "{scores}", "--below", "4", "--per", "group", "--alpha", "0.5", "--reweight", "--weights",
     "--out", "{out}/w.parquet"),
])  # fmt: skip
def test_what_needs_no_torch_imports_none(scores, tmp_path, arguments):
    found = imported(*(each.format(scores=scores, out=tmp_path) for each in arguments))
    assert "samplewise.rules.selection" in found, "the list is that of the command"
    assert found.isdisjoint(HEAVY), found & set(HEAVY)
    assert "--weights" in arguments or "pyarrow" not in found, "tables of ids and counts are DuckDB's"


def test_what_needs_torch_imports_no_transformers(scores, tmp_path):
    found = imported("select", scores, "--rule", "ir_dro(r=1)", "--ids", "--out", str(tmp_path / "ids.txt"))
    assert "torch" in found
    assert found.isdisjoint({"transformers", "accelerate", "datasets", "matplotlib"})


@pytest.mark.parametrize("arguments", [
    ("score", "--model", "{out}/none", "--data", "{scores}", "--out", "{out}/scores"), ("train", "{out}/none.yaml"),
    ("evaluate", "{out}/none.yaml"), ("probe", "{out}/none.yaml"), ("compare", "{out}/none.yaml"),
])  # fmt: skip
def test_a_wrong_path_is_said_before_transformers_is_imported(scores, tmp_path, arguments):
    found = imported(*(each.format(scores=scores, out=tmp_path) for each in arguments), code=1)
    assert found.isdisjoint({"transformers", "accelerate", "datasets", "pandas"}), found & set(HEAVY)


@pytest.mark.parametrize("package", [samplewise, samplewise.data, samplewise.report])
def test_names_that_are_imported_when_used_are_there(package):
    """Each that is stated for type checkers, and no other."""
    for name in package.__all__:
        assert getattr(package, name).__name__ or name in dir(package)
    assert set(package.__all__) <= set(dir(package))
    with pytest.raises(AttributeError, match="has no attribute 'nothing'"):
        _ = package.nothing

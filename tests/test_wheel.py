"""The wheel and the sdist as strangers get them: in an environment with what they require, and nothing else."""

import os
import statistics
import subprocess
import sys
import tarfile
from pathlib import Path

import clean_environment
import pytest

ROOT = Path(__file__).parents[1]
ALONE = {key: value for key, value in os.environ.items() if key != "PYTHONPATH"} | {
    "OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1"
}  # fmt: skip
PROGRAMS = Path(__file__).parent / "alone"
pytestmark = pytest.mark.slow


@pytest.fixture(scope="session")
def built(tmp_path_factory):
    """(wheel, sdist), by `python -m build`: the wheel out of the sdist, as it is published."""
    out = tmp_path_factory.mktemp("dist")
    command = [sys.executable, "-m", "build", "--no-isolation", "--outdir", str(out), str(ROOT)]
    subprocess.run(command, check=True, capture_output=True, timeout=120)
    (wheel,), (sdist,) = out.glob("*.whl"), out.glob("*.tar.gz")
    return wheel, sdist


@pytest.fixture(scope="session")
def environment(built, tmp_path_factory):
    """The Python of an environment with one extra, made once."""
    made = {}

    def of(extra: str = "") -> Path:
        if extra not in made:
            made[extra] = clean_environment.make(tmp_path_factory.mktemp(f"only-{extra or 'torch'}"), built[0], extra)
        return made[extra]

    return of


def run(python: Path, program: Path, folder: Path) -> None:
    """A program of tests/alone, which ends with an error where something is not as it should be."""
    command = [str(python), "-W", "error::DeprecationWarning:samplewise", str(program)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=240, cwd=folder, env=ALONE)
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize("program", ["bare", "loop"])
def test_torch_and_numpy_are_enough(environment, tmp_path, program):
    run(environment(), PROGRAMS / f"only_{program}.py", tmp_path)


@pytest.mark.parametrize("extra", ["cli", "hf", "trl", "corpus", "report"])
def test_each_extra_works_alone(environment, tmp_path, extra):
    program = PROGRAMS / f"only_{extra}.py"
    for beside in (program, ROOT / "tests" / "fake_scores.py"):  # away from the checkout, which must not be imported
        (tmp_path / beside.name).write_text(beside.read_text(encoding="utf-8"), encoding="utf-8")
    run(environment(extra), tmp_path / program.name, tmp_path)


def test_every_extra_that_users_install_has_a_program():
    import tomllib

    declared = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]["optional-dependencies"]
    untried = {"all": "the sum of others", "dev": "for this suite", "docs": "for the site", "eval": "test_tasks",
               "ray": "test_ray", "megatron": "test_select", "triton": "frameworks/test_triton",
               "liger": "frameworks/test_triton__liger"}  # fmt: skip
    tried = {each.stem.removeprefix("only_") for each in PROGRAMS.glob("*.py")}
    assert set(declared) - set(untried) == tried - {"bare", "loop"}


def test_the_import_takes_hardly_longer_than_torch_does(environment, tmp_path):
    def seconds(module: str) -> float:
        code = f"import resource, {module}; used = resource.getrusage(0); print(used.ru_utime + used.ru_stime)"
        command = [str(environment()), "-c", code]
        return float(
            subprocess.run(command, capture_output=True, text=True, cwd=tmp_path, env=ALONE, check=True).stdout
        )

    pairs = [(seconds("torch, numpy"), seconds("samplewise")) for _ in range(6)][1:]  # the first fills the caches
    torch_alone, ours = (statistics.median(column) for column in zip(*pairs, strict=True))
    assert ours <= 1.1 * torch_alone, (ours, torch_alone)


def test_the_sdist_tests_itself(built):
    with tarfile.open(built[1]) as packed:
        inside = {name.partition("/")[2] for name in packed.getnames()}
    tracked = subprocess.run(["git", "ls-files"], cwd=ROOT, capture_output=True, text=True, check=True).stdout.split(
        "\n"
    )
    left_out = {name for name in tracked if name and name not in inside and not name.startswith((".ci/", ".git"))}
    assert not left_out

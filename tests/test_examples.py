"""The loops of the examples run, and learn, as they are."""

import ast
import re
import subprocess
import sys
from pathlib import Path

import pytest
import world

EXAMPLES = Path(__file__).parent.parent / "examples"


def losses(name: str, *arguments: object, launcher: tuple = ()) -> list[float]:
    command = [sys.executable, *launcher, str(EXAMPLES / name), *map(str, arguments)]
    done = subprocess.run(command, env=world.ENVIRONMENT, capture_output=True, text=True, timeout=240, cwd=world.ROOT)
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-4000:]
    return [float(loss) for loss in re.findall(r"^step +\d+: loss ([\d.]+), ess", done.stdout, re.M)]


@pytest.mark.parametrize("name", ["accelerate_loop.py", "torch_loop.py", "dpo_pairs.py"])
def test_the_examples_are_short(name):
    assert len((EXAMPLES / name).read_text().splitlines()) <= 60


def only_defines(script: Path) -> bool:
    """Whether running the script would do nothing."""
    kinds = (ast.Import, ast.ImportFrom, ast.Assign, ast.AnnAssign, ast.FunctionDef, ast.ClassDef)
    body = ast.parse(script.read_text(encoding="utf-8")).body[1:]  # without the docstring
    return all(isinstance(statement, kinds) for statement in body)


def test_the_commands_of_the_pages_name_scripts_that_do_something():
    pages = [
        *world.ROOT.glob("*.md"),
        *(page for part in ("docs", "results") for page in Path(world.ROOT, part).rglob("*.md")),
    ]
    commands = {
        each for page in pages for each in re.findall(r"\bpython ((?:\w+/)+\w+\.py)\b", page.read_text("utf-8"))
    }
    assert len(commands) > 20
    assert [each for each in sorted(commands) if only_defines(Path(world.ROOT, each))] == []


@pytest.mark.slow
def test_the_loop_on_bare_pytorch_learns():
    found = losses("torch_loop.py")
    assert len(found) > 8
    assert found[-1] < found[0] - 1


@pytest.mark.slow
def test_the_trainer_of_preference_pairs_learns():
    found = losses("dpo_pairs.py")
    assert len(found) == 12
    assert found[-1] < found[0] - 0.1


@pytest.mark.slow
def test_the_loop_on_accelerate_learns_and_goes_on_from_its_checkpoint(tmp_path):
    first = losses("accelerate_loop.py", tmp_path / "checkpoint")
    again = losses("accelerate_loop.py", tmp_path / "checkpoint")
    assert first[-1] < first[0] - 1
    assert again[0] == pytest.approx(first[-1], abs=0.4)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["accelerate_loop.py", "torch_loop.py"])
def test_the_loops_run_on_two_processes(name):
    launcher = ("-m", "torch.distributed.run", "--nproc_per_node", "2", "--standalone")
    found = losses(name, launcher=launcher)
    assert found[-1] < found[0] - 0.2

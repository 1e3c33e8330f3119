"""A few real faults, and that the suite would see lost work, other results, a hang and an error without a reason."""

import subprocess
import sys
from pathlib import Path

import pytest
from faults import outcome, shim
from faults.main import table
from faults.outcome import Clean, judged
from faults.server import Run
from faults.trainings import STEPS
from faults.victims import Victim

PROGRAM = Path(__file__).parents[2] / "tools" / "inject_faults.py"


@pytest.mark.skipif(bool(shim.reason_not_to()), reason=shim.reason_not_to() or "runs here")
@pytest.mark.slow
def test_a_selection_is_killed_at_three_of_its_calls():
    command = [sys.executable, str(PROGRAM), "--count", "3", "--victim", "select", "--kind", "SIGKILL at a call"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=200)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "| SIGKILL at a call | 3 | 3 | 0 | 0 |" in done.stdout


CLEAN = Clean({"weights": "right"}, [100], 1.0)


def verdict(monkeypatch, tmp_path, struck: Run, again: Run, end: str, checkpoint: int = 0, **facts):
    """What is thought of a run that was struck, of one that resumed it, and of what was left in the end."""
    victim = Victim("a run", None, lambda folder: None, lambda folder: {"weights": end}, trains=True, **facts)
    if checkpoint:
        marker = tmp_path / "out" / f"checkpoint-{checkpoint}" / "samplewise" / "complete.json"
        marker.parent.mkdir(parents=True)
        marker.touch()
    monkeypatch.setattr(outcome, "run", lambda *args, **kwargs: again)
    return judged("a kind", victim, "a fault", CLEAN, tmp_path, struck)


KILLED, RESUMED = Run([-9]), Run([0], steps=STEPS)


def test_a_run_that_ends_alike_has_survived(monkeypatch, tmp_path):
    assert verdict(monkeypatch, tmp_path, KILLED, RESUMED, "right").fault == ""


def test_another_end_is_seen(monkeypatch, tmp_path):
    found = verdict(monkeypatch, tmp_path, KILLED, RESUMED, "wrong")
    assert (found.differing, found.fault) == (1, "weights differ")


def test_steps_that_are_made_again_are_seen(monkeypatch, tmp_path):
    found = verdict(monkeypatch, tmp_path, KILLED, RESUMED, "right", checkpoint=4)
    assert (found.lost, found.fault) == (4, "4 done again")


def test_a_run_that_does_not_resume_is_seen(monkeypatch, tmp_path):
    assert "not recovered" in verdict(monkeypatch, tmp_path, KILLED, Run([1]), "right").fault


def test_a_hang_is_seen(monkeypatch, tmp_path):
    assert verdict(monkeypatch, tmp_path, Run([-9], hung=True), RESUMED, "right").fault.startswith("hung")


@pytest.mark.parametrize(
    ("said", "script", "seen"),
    [
        ("samplewise: output: expected space, got none. Free some.", False, False),
        ("samplewise: unexpected KeyError: x", False, True),
        ("Traceback (most recent call last):\nKeyError: x", True, True),
        ("Traceback (most recent call last):\nsamplewise.core.errors.SamplewiseError: output: …", True, False),
    ],
)
def test_an_error_must_give_its_reason(monkeypatch, tmp_path, said, script, seen):
    struck = Run([1], said=said)
    assert bool(verdict(monkeypatch, tmp_path, struck, RESUMED, "right", script=script).fault) == seen


def test_the_table_counts_each_kind():
    kinds = [
        {"kind": "kill", "victim": "score", "fault": fault, "lost": 0, "differing": int(bool(fault))}
        for fault in ("", "x")
    ]
    assert table(kinds).splitlines()[2] == "| kill | 2 | 1 | 0 | 1 |"

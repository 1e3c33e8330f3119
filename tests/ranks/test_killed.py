"""Killed with SIGKILL at any moment and resumed, a run ends with the very bits of the run that was not killed."""

import json
from pathlib import Path

import preloaded
import pytest

PROGRAM = Path(__file__).with_name("killed.py")


def ends(folder: Path, case: str, ranks: int, moments: list[str]) -> list[dict]:
    """What the run ended with for each moment of death."""
    done = preloaded.run(PROGRAM, folder, case, str(ranks), *moments, timeout=550)
    assert done.returncode == 0, done.stderr[-4000:]
    return [json.loads(line) for line in (folder / "ends.jsonl").read_text().splitlines()]


def check(whole: dict, killed: list[dict]) -> None:
    for each in killed:
        assert each["killed"], f"{each['moment']} never came"
        assert each["end"] == whole["end"], f"killed at {each['moment']}, resumed from {each['resumed']}"


FAST = [  # (case, processes, moments): in the writing of a checkpoint, in mid-step, between backward and the update
    ("window", 2, ["0@file:46", "1@forward:9"]),
]
SLOW = [
    ("dropout", 1),
    ("command", 1),
    ("command, from a stream", 1),
    ("stream", 1),
    ("pool", 1),
    ("window", 1),
    ("dropout", 2),
    ("stream", 2),
    ("dispatched", 2),
    ("pool", 2),
]


@pytest.mark.parametrize(("case", "ranks", "moments"), FAST)
@pytest.mark.slow
def test_killed_and_resumed_is_the_run_that_was_not(tmp_path, case, ranks, moments):
    whole, *killed = ends(tmp_path, case, ranks, ["never", *moments])
    check(whole, killed)


@pytest.mark.slow
@pytest.mark.parametrize(("case", "ranks"), SLOW)
def test_at_every_fifth_moment(tmp_path, case, ranks):
    (whole,) = ends(tmp_path, case, ranks, ["never"])
    seen = whole["seen"]
    moments = [
        f"{kind}:{n}" for kind in ("file", "forward", "step") for n in range(1, seen.get(kind, 0) + 1, 5 * ranks)
    ]
    moments += ["1@file:3", "1@forward:3", "1@step:5"] if ranks > 1 else []
    check(whole, ends(tmp_path, case, ranks, moments)[1:])

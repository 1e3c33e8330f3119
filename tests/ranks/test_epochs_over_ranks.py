"""What an epoch leaves out is the same on every rank, on any number of them, and after a restart in its middle."""

import json
from pathlib import Path

import preloaded
import pytest

PROGRAM = Path(__file__).with_name("epochs_of_ranks.py")


@pytest.fixture(scope="module")
def found(tmp_path_factory):
    folder = tmp_path_factory.mktemp("epochs")
    done = preloaded.run(PROGRAM, folder, timeout=300)
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-4000:]
    return {path.stem: json.loads(path.read_text()) for path in folder.glob("*.json")}


def full(steps):
    """The steps of 8 different samples: of two ranks the host repeats rows to fill the last of an epoch."""
    return [step for step in steps if len(set(step[1])) == 8]


def test_ranks_agree_and_one_by_eight_is_two_by_four(found):
    assert found["2-0"] == found["2-1"]
    one, two = found["1-0"], found["2-0"]
    assert [step[0] for step in one] == [step[0] for step in two]
    for number in range(3):
        kept = [{id for epoch, ids, _ in steps if epoch == number for id in ids} for steps in (one, two)]
        assert kept[0] == kept[1]
        assert (len(kept[0]) < 40) == (number > 0)
    assert len(full(one)) > 10
    assert full(one) == [step for step in full(two) if step in full(one)]


def test_resumed_in_the_middle_of_an_epoch(found):
    for name in ("1-0", "2-0", "2-1"):
        assert found[name][6][0] == 1
        assert found[f"{name}-resumed"] == found[name][7:]

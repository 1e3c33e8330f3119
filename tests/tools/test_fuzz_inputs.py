"""A short attack with bad inputs, and that the attack would see a fault."""

import pytest
from fuzz.inputs import judge, main
from fuzz.inputs.judge import KINDS, attempt, fault_of, kind_of
from fuzz.inputs.world import build_world

SEEDS = {"rule": 30, "run": 6, "plan": 12, "command": 6, "scores": 6}


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    return build_world(tmp_path_factory.mktemp("world"))


@pytest.mark.parametrize("kind", SEEDS)
def test_every_ending_is_one_that_a_user_may_expect(world, kind):
    first = 9000 + list(KINDS).index(kind)
    seeds = range(first, first + len(KINDS) * SEEDS[kind], len(KINDS))
    found = [attempt(seed, world) for seed in seeds]
    assert {each.kind for each in found} == {kind}
    assert not [(each.seed, each.fault, each.said[-300:]) for each in found if each.ending == "fault"]


def test_an_error_of_no_kind_is_seen(world, monkeypatch):
    from samplewise.engine import plan

    def broken(*args, **kwargs):
        raise TypeError("a fault")

    monkeypatch.setattr(plan, "plan_step", broken)
    seeds = [seed for seed in range(9000, 9100) if kind_of(seed) == "rule"]
    assert "an unexpected TypeError" in {attempt(seed, world).fault for seed in seeds}


def test_endings_are_told_apart():
    good = "samplewise: r: expected a number other than 0, got 0. Use uniform() for no tilt.\n"
    assert fault_of(1, good) == fault_of(1, "scoring   0%|   | \r     \r" + good) == fault_of(0, "") == ""
    assert fault_of(2, "Usage: samplewise …") == ""
    assert fault_of(1, "") == "no sentence"
    assert fault_of(1, "samplewise: unexpected KeyError: 'x' (--debug shows where)") == "an unexpected KeyError"
    assert fault_of(1, "samplewise: it failed") == "a sentence without place, expectation or finding"
    assert fault_of(-1, "Traceback (most recent call last):") == "exit code -1"
    assert fault_of(1, good.replace("got 0", "got \x1b[31m")) == "control characters in the sentence"
    assert fault_of(1, good.replace("got 0", "got " + "0" * 3000)).startswith("a sentence of")


def test_the_command_names_a_process_that_died(monkeypatch, capsys):
    monkeypatch.setattr(judge, "KINDS", KINDS)
    monkeypatch.setattr("fuzz.inputs.workers._serve", _die)
    assert main.main(["--count", "1", "--seed", "9000"]) == 1
    assert "the process died with code 7" in capsys.readouterr().out


def _die(pipe):
    import os

    pipe.recv()
    os._exit(7)

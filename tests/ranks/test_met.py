"""Ranks that differ, see bad numbers, have nothing to train on, die or hang: all take the same way, or end in time."""

import json
import signal
from pathlib import Path

import numpy as np
import preloaded
import pyarrow.parquet
import pytest

PROGRAM = Path(__file__).with_name("met.py")
FAST = ["same:3", "other_rule:2", "too_many_bad:2", "nan:1", "nan:2", "overflow:1", "overflow:2", "no_sample:1",
        "no_sample:2", "dies:2", "hangs:2", "saves:2", "goes_on:1", "goes_on_with_less:1",
        "repeats:2"]  # fmt: skip
SLOW = ["inf:1", "inf:2", "no_sample_scored:1", "no_sample_scored:2"]


class Scenes:
    def __init__(self, folder: Path, scenes: list[str]) -> None:
        done = preloaded.run(PROGRAM, folder, *scenes, timeout=500)
        assert done.returncode == 0, done.stderr[-4000:]
        self.folder, self.errors = folder, done.stderr

    def end(self, name: str, ranks: int) -> tuple[list[int], float]:
        """Exit codes, seconds."""
        end = json.loads((self.folder / f"{name}.{ranks}.end").read_text())
        return end["codes"], end["seconds"]

    def said(self, name: str, ranks: int = 2) -> list[dict]:
        """By rank."""
        codes, _ = self.end(name, ranks)
        assert codes == [0] * ranks, self.errors[-4000:]
        return [json.loads((self.folder / f"{name}.{ranks}.{rank}").read_text()) for rank in range(ranks)]


@pytest.fixture(scope="module")
def scenes(tmp_path_factory):
    return Scenes(tmp_path_factory.mktemp("scenes"), FAST)


def test_what_differs_is_named_on_every_rank(scenes):
    said = scenes.said("same", 3)
    assert all(each["alike"]["error"] is None for each in said)
    assert len({each["other"]["error"] for each in said}) == 1
    assert said[0]["other"]["error"].startswith(
        "rule, seed: expected the same on all ranks, got top_k(0.5) on rank 0 2, top_k(0.25) on rank 1; "
        "1 on rank 0 1, 2 on rank 2."
    )


def test_ranks_with_other_rules_and_seeds_do_not_start(scenes):
    said = scenes.said("other_rule")
    assert said[0] == said[1]
    assert said[0]["error"].startswith(
        "rule, seed: expected the same on all ranks, got ir_dro(r=1.0) on rank 0, ir_dro(r=0.5) on rank 1; "
    )


def test_too_many_bad_rows_on_one_rank_stop_all_with_their_ids(scenes):
    said = scenes.said("too_many_bad")
    assert said[0] == said[1]
    assert "got 2 of 8, ids [5, 6]" in said[0]["error"]


def same_gradients(scenes: Scenes, name: str) -> list[dict]:
    """What each of two ranks says; their gradients are those of one process with all rows."""
    (alone,), together = scenes.said(name, 1), scenes.said(name, 2)
    for each in together:
        for got, expected in zip(each["gradients"], alone["gradients"], strict=True):
            assert np.isfinite(expected).all()
            assert np.linalg.norm(np.subtract(got, expected)) <= 1e-10 * np.linalg.norm(expected)
    figures = [key for key in alone["log"][0] if "seconds" not in key and key != "epoch"]
    for ours, theirs in zip(together[0]["log"], alone["log"], strict=True):
        assert [ours[key] for key in figures] == pytest.approx([theirs[key] for key in figures], rel=1e-9)
    return together


@pytest.mark.parametrize("name", ["nan", pytest.param("inf", marks=pytest.mark.slow)])
def test_a_bad_row_of_one_rank_is_left_out_by_all_within_the_step(scenes, name, tmp_path):
    scenes = scenes if name == "nan" else Scenes(tmp_path, SLOW)
    for said in same_gradients(scenes, name):
        assert any("left out samples with a non-finite loss: ids [5]" in message for message in said["messages"])
        assert "a loss or a factor is not finite" in " ".join(said["messages"]), "the second step was one pass"


def test_an_overflow_on_one_rank_sends_all_the_one_way_back(scenes):
    for said in same_gradients(scenes, "overflow"):
        assert "step 2 runs again in two passes: the largest factor is" in " ".join(said["messages"])
    assert [entry.get("samplewise/retried") for entry in scenes.said("overflow")[0]["log"]] == [None, 1]


@pytest.mark.parametrize("name", ["no_sample", pytest.param("no_sample_scored", marks=pytest.mark.slow)])
def test_a_rank_without_any_sample_takes_part(scenes, name, tmp_path):
    same_gradients(scenes if name == "no_sample" else Scenes(tmp_path, SLOW), name)


def test_when_a_rank_dies_the_others_end_with_an_error(scenes):
    codes, seconds = scenes.end("dies", 2)
    assert codes == [1, -signal.SIGKILL]
    assert seconds < 50, "it was not waited for, but killed"
    assert "peer" in scenes.errors, "of gloo: connection closed, or reset, by peer"


def test_when_a_rank_hangs_the_others_end_after_the_timeout_of_the_host(scenes):
    codes, seconds = scenes.end("hangs", 2)
    assert codes == [1, -signal.SIGKILL]
    assert seconds < 50
    assert "Timed out waiting 4000ms" in scenes.errors


def test_fewer_ranks_go_on_with_the_same_steps_or_say_that_they_do_not(scenes):
    whole, (half,), (less,) = scenes.said("saves"), scenes.said("goes_on", 1), scenes.said("goes_on_with_less", 1)
    for key in ("loss", "samplewise/ess", "learning_rate"):
        expected = [entry[key] for entry in whole[0]["log"]]
        assert [entry[key] for entry in half["log"]] == pytest.approx(expected, rel=1e-4)
    assert len(less["log"]) == 4
    assert "2 ranks wrote the checkpoint and 1 resume it: steps have the same rows" in " ".join(half["messages"])
    resized = "a step had 8 rows when the checkpoint was written and has 4 now: 2 steps of the new size"
    assert resized in " ".join(less["messages"])


def test_rows_that_the_sampler_repeats_count_as_for_the_host_and_are_recorded_once(scenes):
    host, ours = (scenes.said("repeats")[0][name] for name in ("host", "ours"))
    assert len(host["loss"]) == 4
    assert ours["loss"] == pytest.approx(host["loss"], rel=1e-6)
    assert np.abs(np.subtract(ours["parameters"], host["parameters"])).max() <= 1e-6, "the host takes its loss in fp32"
    table = pyarrow.parquet.read_table(scenes.folder / "samples").to_pydict()
    pairs = list(zip(table["step"], table["id"], strict=True))
    assert len(pairs) == len(set(pairs))
    assert {step for step, _ in pairs} == {1, 2, 3, 4}
    assert {name for _, name in pairs} == set(range(7))

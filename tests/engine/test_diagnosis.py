"""Every warning comes at its threshold, says it and a remedy, comes once, and stays away on the near side."""

from pathlib import Path

import pytest
import torch

import samplewise as sw
from samplewise.engine import diagnosis
from samplewise.engine.diagnosis import Finding, Watch, diagnose

GOOD = {"ess": 0.6, "kept": 0.9, "length_corr": 0.1, "samples": 32.0}


def fed(rule: sw.Rule, steps: int, figures: dict[str, float], **more) -> list[Finding]:
    watch = Watch(rule)
    return [found for step in range(1, steps + 1) for found in watch.step(step, GOOD | figures, **more)]


CASES = {
    "few samples count": (sw.ir_dro(r=0.1), {"ess": 0.099}, {"ess": 0.1}, "ess=0.5"),
    "length": (sw.ir_dro(), {"length_corr": -0.51}, {"length_corr": -0.5}, "by_length"),
    "no effect": (sw.ir_dro(r=9.0), {"ess": 1.0, "kept": 1.0}, {"ess": 0.999, "kept": 1.0}, "Lower r"),
}


@pytest.mark.parametrize("name", CASES)
def test_a_figure_out_of_bounds_for_fifty_steps(name):
    rule, bad, good, remedy = CASES[name]
    (found,) = fed(rule, 120, bad)
    assert (found.name, found.step) == (name, 50)
    assert "threshold" in found.says
    assert remedy in found.remedy
    assert str(found).startswith("step 50: ")
    assert fed(rule, 49, bad) == []
    assert fed(rule, 120, good) == []


def test_steps_in_a_row():
    watch = Watch(sw.ir_dro())
    for step in range(1, 300):
        ess = 0.3 if step % 50 == 0 else 0.01
        assert watch.step(step, GOOD | {"ess": ess}) == []


@pytest.mark.parametrize(
    ("rule", "samples", "expected"),
    [
        (sw.ir_dro(), 1, True), (sw.ir_dro(), 2, False), (sw.lin_upper(), 2, True), (sw.lin_upper(), 3, False),
        (sw.chain(sw.column_weights(), sw.quadratic()), 2, True), (sw.uniform(), 1, False),
        (sw.ir_dro(r=1.0, ema=0.9), 1, False), (sw.infobatch(0.5, anneal=0.0), 1, False),
    ],
)  # fmt: skip
def test_steps_too_small_for_the_rule(rule, samples, expected):
    found = fed(rule, 60, {"samples": samples})
    assert [each.name for each in found] == ["no effect"] * expected
    if expected:
        assert "accumulation" in found[0].remedy


def test_a_warm_up_and_the_uniform_rule_may_weigh_all_alike():
    for rule in (sw.uniform(), sw.chain(sw.uniform(), sw.uniform()), sw.warmup(100, sw.ir_dro())):
        assert fed(rule, 90, {"ess": 1.0, "kept": 1.0}) == []


def test_scoring_above_two_fifths_of_the_time():
    (found,) = fed(sw.top_k(0.5), 80, {}, seconds={"score": 0.42, "train": 0.5, "rule": 0.08})
    assert (found.name, found.step) == ("scoring", 50)
    assert "42%" in found.says
    assert "one pass" in found.remedy
    assert fed(sw.top_k(0.5), 80, {}, seconds={"score": 0.39, "train": 0.61}) == []
    assert fed(sw.top_k(0.5), 80, {}, seconds={"train": 1.0}) == []


def test_one_in_a_hundred_ids_that_hold_a_fifth_of_the_weight():
    """400 ids, 32 a step; four of them are in every step, and weigh much or little."""

    def run(heavy: float) -> list[Finding]:
        watch, found = Watch(sw.ir_dro()), []
        for step in range(1, 201):
            ids = torch.cat([torch.arange(4), 4 + (torch.arange(28) + 28 * step) % 396]) * 2**40
            weights = torch.where(ids < 4 * 2**40, heavy, 0.5)
            found += watch.step(step, GOOD, ids=ids, weights=weights / weights.mean())
        return found

    (found,) = run(4.0)
    assert found.name == "few ids"
    assert found.step % 50 == 0
    assert "1% of the 400 ids" in found.says
    assert run(0.5) == []


def test_few_ids_are_no_statistic():
    watch = Watch(sw.ir_dro())
    ids, weights = torch.arange(100), torch.tensor([80.0] + [0.2] * 99)
    assert [found for step in range(100) for found in watch.step(step, GOOD, ids=ids, weights=weights)] == []


@pytest.mark.parametrize(
    ("train", "held_out", "expected"),
    [
        ([3.0, 2.5, 2.0], [3.0, 3.01, 3.02], True), ([3.0, 2.5, 2.0], [3.0, 3.004, 3.009], False),
        ([3.0, 2.5, 2.6], [3.0, 3.1, 3.2], False), ([3.0, 2.5, 2.0], [3.0, 2.9, 3.2], False),
        ([3.0, 2.5], [3.0, 3.1], False), ([3.0, 2.5, 2.0, 1.9, 1.8], [3.0, 2.9, 2.8, 2.9, 3.0], True),
    ],
)  # fmt: skip
def test_training_loss_falls_while_held_out_rises(train, held_out, expected):
    watch, found = Watch(sw.ir_dro()), []
    for step, (a, b) in enumerate(zip(train, held_out, strict=True), 1):
        watch.step(step, GOOD | {"loss": a})
        found += watch.evaluated(step, b)
    assert [each.name for each in found] == ["overfitting"] * expected


def test_a_log_gives_what_the_steps_did():
    """Entries are means over ten steps each; an evaluation now and then; and what others have logged."""
    log: list[dict[str, float]] = []
    for step in range(10, 310, 10):
        figures = {
            "ess": 0.05,
            "length_corr": 0.8,
            "kept": 1.0,
            "seconds_score": 1.0,
            "seconds_train": 1.0,
            "mode": 2.0,
        }
        log.append({"step": step, "loss": 3 - step / 1000, **{f"samplewise/{k}": v for k, v in figures.items()}})
        if step % 100 == 0:
            log += [{"step": step, "eval_loss": 3 + step / 1000}, {"step": step, "train_runtime": 3.0}]
    found = diagnose(log, sw.top_k(0.5))
    assert [(each.name, each.step) for each in found] == [
        ("few samples count", 50), ("length", 50), ("scoring", 50), ("overfitting", 300)
    ]  # fmt: skip
    assert diagnose([], sw.ir_dro()) == []


def test_the_page_has_the_thresholds_that_are_used():
    page = (Path(__file__).parents[2] / "docs" / "diagnosis.md").read_text(encoding="utf-8")
    rows = {line.split("|")[1].strip(): line for line in page.splitlines() if line.startswith("| ")}
    assert set(rows) - {"finding"} == {*CASES, "few ids", "scoring", "overfitting"}
    assert f"below {diagnosis.MIN_ESS:.0%} of N for {diagnosis.PATIENCE} steps" in rows["few samples count"]
    few, most = f"{diagnosis.HEAVIEST_IDS:.0%} of at least {diagnosis.MIN_IDS} ids", f"{diagnosis.MAX_WEIGHT_SHARE:.0%}"
    assert f"{few} hold more than {most}" in rows["few ids"]
    assert f"over {diagnosis.PATIENCE} steps above {diagnosis.MAX_CORRELATION} either way" in rows["length"]
    assert f"more than {diagnosis.MAX_SCORING_SHARE:.0%} of the time of {diagnosis.PATIENCE} steps" in rows["scoring"]
    assert (
        f"each of {diagnosis.MIN_EVALUATIONS} evaluations, by more than {diagnosis.MIN_RISE} nats"
        in rows["overfitting"]
    )
    assert all(f"`{name}`" in rows["no effect"] for name in diagnosis.MIN_MAX)

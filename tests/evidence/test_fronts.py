"""Losses on old text at equal loss on new text, and weights averaged with the start."""

import json

import numpy as np
import plans
import pytest
import tiny
import torch
import world

from samplewise.core.errors import SamplewiseError
from samplewise.evidence.averaging import averaged
from samplewise.evidence.check import check_results
from samplewise.evidence.experiment import run_plan
from samplewise.evidence.fronts import at_equal, curve_of, front_lines, fronts
from samplewise.evidence.plan_file import load_plan
from samplewise.evidence.primary import Primary, primary_outcome
from samplewise.report.plan import write_plan as write_report
from samplewise.report.plan_table import plan_table


def values_of(curves: dict[str, list[tuple[float, float]]], seeds: int = 3, documents: int = 40, noise: float = 1e-3):
    """(new, old) by arm and evaluation after a common start at (4, 2)."""
    draw = np.random.default_rng(0)

    def sets(new: float, old: float) -> dict:
        return {"held_out": [new - 0.1, new + 0.1], "web": (old + noise * draw.normal(size=documents)).tolist()}

    def stage(k: int) -> dict:
        return {arm: {str(s): sets(*points[k]) for s in range(seeds)} for arm, points in curves.items()}

    count = len(next(iter(curves.values())))
    return {
        "before": {"any": sets(4.0, 2.0)},
        "during": [stage(k) for k in range(count - 1)],
        "after": stage(count - 1),
    }


CURVES = {
    "uniform": [(3.5, 2.2), (3.2, 2.5), (3.0, 2.8)], "slow": [(3.7, 2.05), (3.5, 2.1), (3.3, 2.2)],
    "half": [(3.6, 2.15), (3.4, 2.2), (3.1, 2.6)],
}  # fmt: skip


def test_arms_are_compared_where_they_have_learned_as_much():
    x, seeds, level = at_equal(values_of(CURVES), "slow", "uniform", old="web", new="held_out")  # pyright: ignore
    assert level == pytest.approx(3.3)
    assert x.shape == (3, 40)
    on_the_way = 2.2 + (2.5 - 2.2) * (3.5 - 3.3) / (3.5 - 3.2)
    assert x.mean() == pytest.approx(2.2 - on_the_way, abs=1e-3)
    assert seeds == ["0", "1", "2"]
    faster, *_ = at_equal(values_of(CURVES), "half", "slow", old="web", new="held_out")  # pyright: ignore
    assert faster.mean() == pytest.approx(2.2 + 0.4 / 3 - 2.2, abs=1e-3), "at the slow one's end"
    assert at_equal(values_of(CURVES), "slow", "uniform", old="none", new="held_out") is None
    assert curve_of(values_of(CURVES), "slow", "web", "held_out")[-1] == pytest.approx((3.3, 2.2), abs=1e-3)


def test_every_arm_meets_its_control_lower_rates_and_averages():
    arms = [plans.arm("uniform", "control"), plans.arm("half", "rate"), plans.arm("slow")]
    rows = fronts(arms, "uniform", values_of(CURVES), old=["web"], new="held_out")
    assert [(row["arm"], row["control"], row["role"]) for row in rows] == [
        ("half", "uniform", "remedy"), ("slow", "uniform", "uniform"), ("slow", "half", "rate"),
    ]  # fmt: skip
    assert rows[1]["mean"] < 0
    assert rows[1]["p_holm"] < 0.05


def test_an_arm_that_learned_nothing_is_named_and_not_compared():
    worse = {"lost": [(4.5, 2.9), (4.2, 3.0), (4.1, 3.0)], "slow": CURVES["slow"], "uniform": CURVES["uniform"]}
    arms = [plans.arm("uniform", "control"), plans.arm("lost"), plans.arm("slow")]
    lost, slow = fronts(arms, "uniform", values_of(worse), old=["web"], new="held_out")
    assert lost["unlearned"] == ["lost"]
    assert "mean" not in lost
    assert slow["family"] == 1
    assert front_lines([lost, slow])[0] == (
        "lost − uniform: not compared on web: lost never came below the start's loss on held_out"
    )
    later = {**worse, "lost": [(4.5, 2.9), (3.9, 3.0), (4.1, 3.0)]}
    assert "unlearned" not in fronts(arms, "uniform", values_of(later), old=["web"], new="held_out")[0]


def test_averaged_weights_are_compared_with_lower_rates():
    average = {"averaged": [(3.9, 2.02), (3.6, 2.1), (3.0, 2.8)]}
    arms = [plans.arm("uniform", "control"), plans.arm("half", "rate"), plans.arm("averaged", "average")]
    rows = fronts(arms, "uniform", values_of(CURVES | average), old=["web"], new="held_out")
    assert [(row["arm"], row["control"]) for row in rows] == [("half", "uniform"), ("averaged", "half")]


def test_a_primary_front_is_against_the_best_control():
    primary = Primary("slow", ("uniform", "half"), "front", ("web",), "held_out")
    values = values_of(CURVES)
    found = primary_outcome(primary, {}, values)
    x, *_ = at_equal(values, "slow", "half", old="web", new="held_out")  # pyright: ignore
    assert found["control"] == "half"
    assert found["mean"] == pytest.approx(x.mean())
    assert Primary.from_json(primary.to_json()) == primary


def test_averaged_weights_are_between_and_are_put_back():
    model, start = tiny.model("llama", seed=1), tiny.model("llama", seed=2)
    own = {name: value.clone() for name, value in model.state_dict().items()}
    with averaged(model, start, 0.25):
        for name, value in model.named_parameters():
            torch.testing.assert_close(value, 0.25 * own[name] + 0.75 * dict(start.named_parameters())[name])
    assert all(torch.equal(value, own[name]) for name, value in model.state_dict().items())


def test_a_plan_of_fronts_measures_averages_with_the_controls_run(tmp_path):
    path = plans.write_plan(tmp_path)
    domain = json.dumps({"web": {"path": str(world.save_corpus(tmp_path / "other.jsonl", 12, 21, 70))}})
    options = [
        "seeds=[0]", "evaluations=2", f"domains={domain}", "fronts={old: [web]}",
        "controls={average: true, rates: [0.5], random: false}",
        "primary=[band, [uniform, uniform averaged with the start], front, web]",
    ]  # fmt: skip
    said: list[str] = []
    found = run_plan(load_plan(path, options), say=said.append)
    assert [line.split(": ")[1].split(",")[0] for line in said if line.startswith("run ")] == [
        "uniform", "uniform at 0.5× the learning rate", "band",
    ]  # fmt: skip
    runs = {name: json.loads((tmp_path / "out" / "runs" / f"{name}-0.json").read_text())
            for name in ("uniform", "uniform-averaged-with-the-start")}  # fmt: skip
    one, other = runs.values()
    assert one["after"] == other["after"]
    assert one["during"][0]["sets"] != other["during"][0]["sets"]
    means = [each["sets"]["held_out"]["figures"]["mean"] for each in other["during"]]
    before = json.loads((tmp_path / "out" / "runs" / ".before.json").read_text())["sets"]["held_out"]["figures"]["mean"]
    assert before > means[0] > means[1] > other["after"]["held_out"]["figures"]["mean"]
    assert {row["role"] for row in found["fronts"]} == {"uniform", "rate", "average", "remedy"}
    assert all("averaged" not in row["arm"] for row in found["differences"])
    assert found["primary"]["metric"] == "front"
    check_results(tmp_path / "out")
    write_report(tmp_path / "out", found)
    assert "Learned and forgotten" in (tmp_path / "out" / "report.html").read_text()
    assert "loss on web at equal loss on held_out" in plan_table(found)


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (["fronts={old: [web]}"], "held_out or domains of this plan, got web"),
        (["fronts={old: []}"], "sets other than held_out"),
        (["fronts={old: [held_out]}"], "sets other than held_out"),
        (["controls={average: true}", "evaluations=0"], "a front is a curve over them"),
        (["primary=[band, uniform, front, held_out]"], "a metric that this plan measures, got front"),
    ],
)
def test_fronts_of_nothing_are_refused(tmp_path, overrides, message):
    with pytest.raises(SamplewiseError, match=message):
        load_plan(plans.write_plan(tmp_path), overrides)

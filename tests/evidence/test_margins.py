"""Not worse by a margin, for a share of the budget, and the compute that it takes to reach the control."""

import json

import plans
import pytest

from samplewise.core.errors import SamplewiseError
from samplewise.evidence.check import check_results
from samplewise.evidence.differences import differences
from samplewise.evidence.experiment import run_plan
from samplewise.evidence.plan_file import load_plan
from samplewise.evidence.primary import Primary, primary_outcome
from samplewise.evidence.reach import reach, reach_lines
from samplewise.evidence.sentences import verdicts


def said(shift: float, margin: float) -> tuple[dict, dict]:
    arms = [plans.arm("uniform", "control"), {**plans.arm("less"), "margin": margin}, plans.arm("other")]
    values = plans.values({"uniform": 0.0, "less": shift, "other": 0.0})
    rows = differences(arms, "uniform", plans.documents(100), values, 0.005)
    primary = primary_outcome(
        Primary("less", ("uniform",), "loss", ("held_out",)), plans.documents(100), values, margin
    )
    return verdicts(rows, 0.005)["less"], primary


@pytest.mark.parametrize(
    ("shift", "margin", "verdict", "words"),
    [
        (0.0, 0.01, "not worse", "is not worse than uniform by 0.01 or more"),
        (0.02, 0.01, "worse", "is worse than uniform by more than 0.01"),
        (0.01, 0.01, "none", "is not shown to be within 0.01 of uniform"),
        (-0.02, 0.01, "not worse", "is not worse than uniform by 0.01 or more"),
    ],
)
def test_a_margin_has_verdicts_of_its_own(shift, margin, verdict, words):
    found, primary = said(shift, margin)
    assert found["verdict"] == primary["verdict"] == verdict
    assert words in found["sentence"]
    assert words in primary["sentence"]
    assert (primary["high"] < margin) == (verdict == "not worse")


def test_two_arms_with_margins_are_corrected_together():
    arms = [plans.arm("uniform", "control"), *({**plans.arm(name), "margin": 0.004} for name in ("a", "b"))]
    values = plans.values({"uniform": 0.0, "a": 0.0, "b": 0.0})
    alone = differences([*arms[:2], plans.arm("b")], "uniform", plans.documents(100), values, 0.005)
    both = differences(arms, "uniform", plans.documents(100), values, 0.005)
    p = [[row["p_margin"] for row in rows if "p_margin" in row] for rows in (alone, both)]
    assert len(p[0]) == 1
    assert sorted(p[1])[0] == pytest.approx(2 * min(p[0][0], sorted(p[1])[0] / 2))


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("arms.band={rule: uniform(), budget_share: 0}", r"budget_share: expected above 0, up to 1, got 0"),
        ("arms.band={rule: uniform(), budget_share: 1.5}", "up to 1, got 1.5"),
        ("arms.band={rule: uniform(), margin: -0.1}", r"margin: expected nats/token above 0"),
    ],
)
def test_shares_and_margins_are_numbers_that_can_be(tmp_path, override, message):
    with pytest.raises(SamplewiseError, match=message):
        load_plan(plans.write_plan(tmp_path), [override])


# ---- the compute to reach the control ----


def curve(losses: list[float], spent: list[float]) -> dict:
    return {"losses": losses, "spent": spent}


def values_of(curves: dict[str, dict]) -> dict:
    def sets(loss: float) -> dict:
        return {"held_out": [loss - 0.1, loss + 0.1]}

    stages = len(next(iter(curves.values()))["losses"])
    return {
        "before": {"any": sets(4.0)},
        "during": [{arm: {"0": sets(own["losses"][k])} for arm, own in curves.items()} for k in range(stages - 1)],
        "after": {arm: {"0": sets(own["losses"][-1])} for arm, own in curves.items()},
        "spent": {arm: {"0": own["spent"]} for arm, own in curves.items()},
    }


def test_the_share_is_interpolated_between_evaluations():
    values = values_of({
        "uniform": curve([3.5, 3.2, 3.0], [100, 200, 300]), "fast": curve([3.2, 2.9, 2.8], [110, 210, 310]),
        "slow": curve([3.6, 3.4, 3.1], [100, 200, 300]), "at once": curve([2.5, 2.6, 2.7], [100, 200, 300]),
    })  # fmt: skip
    arms = [plans.arm("uniform", "control"), *map(plans.arm, ("fast", "slow", "at once"))]
    found = reach(arms, "uniform", values)
    assert found["fast"]["share"] == pytest.approx((110 + 100 * 0.2 / 0.3) / 300)
    assert found["slow"]["share"] is None
    assert found["at once"]["share"] == pytest.approx(100 * 1.0 / 1.5 / 300), "on the way from the start"
    assert "uniform" not in found
    lines = reach_lines(found)
    assert lines[0].startswith("fast: the final loss of uniform takes 59% (59% to 59%) of what uniform spent")
    assert lines[1] == "slow: the final loss of uniform is not reached"
    assert reach(arms, "uniform", {**values, "during": []}) == {}


def test_a_share_of_the_budget_with_measures_of_the_outputs(tmp_path):
    plan = load_plan(plans.write_plan(tmp_path), [
        "arms={less: {budget_share: 0.5, margin: 5.0}}", "seeds=[0]", "measures=[tempered, accuracy]", "evaluations=2",
        "budget={tokens: 900}", "primary=[less, uniform, accuracy, held_out]",
    ])  # fmt: skip
    found = run_plan(plan, say=str)
    spent = found["budget"]["spent"]
    assert 450 <= spent["less"]["0"] < 450 + 8 * 31
    assert spent["uniform"]["0"] >= 900
    assert found["verdicts"]["less"]["verdict"] == "not worse"
    assert {"held_out/tempered", "held_out/accuracy"} < set(found["documents"])
    assert found["higher_is_better"] == ["held_out/accuracy"]
    assert found["primary"]["metric"] == "accuracy"
    run = json.loads((tmp_path / "out" / "runs" / "less-0.json").read_text())
    own = run["more"]["held_out"]
    losses = [each["loss"] for each in run["after"]["held_out"]["documents"]]
    assert own["figures"]["tempered"] <= sum(losses) / len(losses) + 0.02
    assert own["items"] == [each["id"] for each in run["after"]["held_out"]["documents"]]
    values = json.loads((tmp_path / "out" / "values.json").read_text())
    assert values["spent"]["less"]["0"] == [*(each["spent"] for each in run["during"]), run["spent"]]
    assert set(found["reach"]) == {"less"}
    check_results(tmp_path / "out")

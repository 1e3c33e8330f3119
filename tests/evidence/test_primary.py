"""Controls of an arm's own, the primary comparison, and what is registered before the first arm: on numbers alone."""

import json
import re
from pathlib import Path

import half_width
import numpy as np
import plans
import pytest

from samplewise.core.errors import SamplewiseError
from samplewise.evidence import crossed
from samplewise.evidence.check import check_results
from samplewise.evidence.derived import derived
from samplewise.evidence.outcome import SCHEMA
from samplewise.evidence.plan_file import load_plan
from samplewise.evidence.primary import Primary, half_widths_at, primary_outcome
from samplewise.evidence.registered import REGISTERED, register, registered, registration_lines
from samplewise.report.plan_table import plan_table

ARMS = [plans.arm("uniform", "control"), plans.arm("mixed in"), {**plans.arm("rho"), "control": "mixed in"}]
SHIFTS = {"uniform": 0.0, "mixed in": -0.3, "rho": -0.33}


@pytest.fixture(scope="module")
def here(tmp_path_factory):
    return tmp_path_factory.mktemp("primary")


def results(asked: dict, arms=ARMS, shifts=SHIFTS, **options) -> tuple[dict, dict]:
    values = plans.values(shifts, **options)
    stated = {
        "schema": SCHEMA, "complete": True, "missing": [], "failed": [], "seeds": [0, 1, 2, 3, 4], "control": "uniform",
        "budget": {"kind": "steps", "amount": 5, "spent": {}}, "min_effect": 0.005, "documents": plans.documents(100),
        "arms": [{"rule": "uniform()", "ran": None, **arm} for arm in arms], **({"asked": asked} if asked else {}),
    }  # fmt: skip
    return stated | derived(stated, values), values


# ---- a control of its own ----


def test_an_arm_is_compared_with_its_own_control():
    found, values = results({})
    main = {row["arm"]: row for row in found["differences"] if row["metric"] == "loss"}
    assert main["rho"]["control"] == "mixed in"
    assert main["rho"]["mean"] == pytest.approx(-0.03, abs=0.01)
    by_hand = [np.subtract(values["after"]["rho"][s]["held_out"], values["after"]["mixed in"][s]["held_out"])
               for s in map(str, range(5))]  # fmt: skip
    assert main["rho"]["p"] == crossed(np.array(by_hand)).p
    assert main["mixed in"]["control"] == "uniform"
    assert found["verdicts"]["rho"]["sentence"].startswith("rho is better than mixed in at this budget")
    assert "to mixed in" in next(line for line in plan_table(found).splitlines() if line.startswith("rho"))


def test_the_families_name_what_is_corrected_together():
    arms = [*ARMS, plans.arm("fast", "rate")]
    found, _ = results({}, arms, {**SHIFTS, "fast": 0.0})
    family = {(f["metric"], f["role"], f["of"]): f["comparisons"] for f in found["families"]}
    assert family["loss", "uniform", "arms"] == ["mixed in − uniform", "rho − mixed in"]
    assert family["loss", "uniform", "controls"] == ["fast − uniform"]
    assert family["loss", "rate", "arms"] == ["mixed in − fast"], "the plan's rates are of other text than rho's"
    assert all(row["family"] == 2 for row in found["differences"] if (row["arm"], row["role"]) == ("rho", "uniform"))


def test_an_arm_that_came_late_says_so():
    found, _ = results({}, [*ARMS[:2], {**ARMS[2], "later": True}])
    assert found["verdicts"]["rho"]["sentence"].endswith("It was added after runs of other arms were finished.")
    assert "added after" not in found["verdicts"]["mixed in"]["sentence"]
    assert "added later" in plan_table(found)


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (["arms.band={rule: uniform(), control: unifrm}"], r"arms\.band\.control: .*Did you mean uniform"),
        (["arms.band={rule: uniform(), control: band}"], "another arm of this plan, got band"),
        (["arms.uniform={control: band}"], "it is the plan's control"),
        (["arms.own={data: x}", "arms.band={rule: uniform(), control: own}"], "has the same data, or say other_data"),
        (["arms.band={rule: uniform(), control: uniform, data: x}"], "has the same data, or say other_data"),
        (["primary=[tilt, uniform, loss, held_out]"], "arms of this plan, got tilt"),
        (["primary=[band, unifrm, loss, held_out]"], "Did you mean uniform"),
        (["primary=[band, band, loss, held_out]"], "two arms"),
        (["primary=[band, uniform, los, held_out]"], "Did you mean loss"),
        (["primary=[band, uniform, loss, web]"], "a domain or a task of this plan, got web"),
        (["primary=[band, uniform, loss]"], r"\[arm, control, metric, domain\]"),
        (["primary=[[band, uniform], uniform, loss, held_out]"], r"\[arm, control, metric, domain\]"),
        (["primary=[band, [], loss, held_out]"], r"\[arm, control, metric, domain\]"),
    ],
)
def test_what_is_compared_with_nothing_fair_is_refused(here, overrides, message):
    with pytest.raises(SamplewiseError, match=message):
        load_plan(plans.write_plan(here), overrides)


def test_a_control_of_other_data_may_say_so(here):
    plan = load_plan(plans.write_plan(here), [
        "arms.own={data: x}", "arms.band={rule: uniform(), control: own, other_data: true}",
        "primary=[own, [uniform, band], worst_decile, held_out]",
    ])  # fmt: skip
    assert plan.primary == ["own", ["uniform", "band"], "worst_decile", "held_out"]


# ---- the primary comparison ----


def test_the_primary_comparison_stands_alone():
    asked = Primary("rho", ("mixed in",), "loss", ("held_out",))
    found, values = results({"primary": asked.to_json()})
    primary, row = found["primary"], next(r for r in found["differences"] if r["arm"] == "rho")
    assert (primary["p"], primary["mean"]) == (row["p"], row["mean"])
    assert (row["family"], row["p_holm"] >= row["p"]) == (2, True), "the table is corrected over two arms"
    assert primary["verdict"] == "better"
    assert plan_table(found).splitlines()[0] == primary["sentence"]
    assert primary_outcome(asked, found["documents"], {"after": {"rho": values["after"]["rho"]}})["verdict"] == (
        "unfinished"
    )


def test_of_several_controls_the_best_is_taken_and_of_several_domains_the_mean():
    found, values = results({}, [*ARMS, plans.arm("best")], {**SHIFTS, "best": -0.4})
    primary = primary_outcome(
        Primary("rho", ("uniform", "best", "mixed in"), "loss", ("held_out",)), found["documents"], values
    )
    assert primary["control"] == "best"
    assert primary["verdict"] == "worse"
    assert set(primary["tried"]) == {"uniform", "best", "mixed in"}
    for arm, seeds in values["after"].items():
        for sets in seeds.values():
            sets["web"] = [value + (0.2 if arm == "rho" else 0.0) for value in sets["held_out"][:20]]
    documents = {**found["documents"], "web": found["documents"]["held_out"][:20]}
    parts = [primary_outcome(Primary("rho", ("mixed in",), "loss", own), documents, values)
             for own in (("held_out",), ("web",), ("held_out", "web"))]  # fmt: skip
    assert parts[2]["mean"] == pytest.approx((parts[0]["mean"] + parts[1]["mean"]) / 2)
    assert parts[2]["documents"] == 120
    assert "the mean of held_out, web" in parts[2]["sentence"]


def test_a_pilot_tells_how_wide_the_interval_will_be():
    """With 3 seeds of a difference between seeds alone, 5 give t(4)/t(2) · √(3/5) of the interval that 3 have."""
    asked = Primary("rho", ("uniform",), "loss", ("held_out",))
    losses = {arm: {str(s): {"held_out": [3.0 + (arm == "rho") * 0.01 * (s - 1) + 0.1 * d for d in range(20)]}
                    for s in range(3)} for arm in ("uniform", "rho")}  # fmt: skip
    documents = {"held_out": plans.documents(20)["held_out"]}
    now = primary_outcome(asked, documents, {"after": losses})
    widths = {seeds: half_widths_at(asked, documents, {"after": losses}, seeds)["uniform"] for seeds in (3, 5)}
    assert widths[3] == pytest.approx((now["high"] - now["low"]) / 2, rel=1e-6)
    assert widths[5] / widths[3] == pytest.approx(2.776 / 4.303 * (3 / 5) ** 0.5, rel=1e-3)
    few = {"after": {arm: {"0": seeds["0"], "1": seeds["1"]} for arm, seeds in losses.items()}}
    with pytest.raises(SamplewiseError, match="3 finished seeds of rho and uniform, got 2"):
        half_widths_at(asked, documents, few, 5)


def test_more_held_out_documents_make_the_interval_narrower():
    asked = Primary("rho", ("uniform",), "loss", ("held_out",))
    losses = {arm: {str(s): {"held_out": [3.0 + (arm == "rho") * 0.01 * (d % 5) for d in range(100)]}
                    for s in range(3)} for arm in ("uniform", "rho")}  # fmt: skip
    documents = {"held_out": plans.documents(100)["held_out"]}
    now, more = (half_widths_at(asked, documents, {"after": losses}, 5, d)["uniform"] for d in (None, 400))
    assert now / more == pytest.approx(2, rel=0.02), "of differences between documents alone"


def test_the_tool_tells_the_width_of_a_comparison_that_is_published(monkeypatch, capsys):
    folder = str(Path(__file__).parents[2] / "results/r6-long/science")
    given = ["half_width.py", folder, "--seeds", "5"]
    monkeypatch.setattr("sys.argv", [*given, "--of", "ir_dro r=3", "uniform", "loss", "networks,web"])
    assert half_width.main() == 0
    assert capsys.readouterr().out.splitlines() == [
        "ir_dro r=3 − uniform, loss on the mean of networks, web: ±0.0009 at 5 seeds",
        "now -0.0069 [-0.0077, -0.0060], p < 0.0001, after Holm over 1 p < 0.0001",
    ]
    two = ["--of", "ir_dro r=3", "uniform", "loss", "held_out", "--of", "ir_dro r=3", "uniform", "loss", "networks"]
    monkeypatch.setattr("sys.argv", [*given, *two])
    assert half_width.main() == 0
    said = capsys.readouterr().out.splitlines()
    found = [[float(p) for p in re.findall(r"p [=<] ([\d.e-]+)", line)] for line in said[1::2]]
    assert found[0][1] == found[0][0], "the largest is not multiplied"
    assert found[1][1] == pytest.approx(2 * found[1][0], rel=0.02)
    for wrong, said in (
        (["r", "uniform", "loss"], "got r"),
        (["ir_dro r=3", "uniform", "front"], "a plan with fronts"),
    ):
        monkeypatch.setattr("sys.argv", [*given, "--of", *wrong, "held_out"])
        assert half_width.main() == 1
        assert said in capsys.readouterr().err
    monkeypatch.setattr("sys.argv", given)
    assert half_width.main() == 1, "its plan has no primary comparison"
    assert "one with --of" in capsys.readouterr().err


# ---- registered beforehand ----


def test_what_was_planned_is_written_once_and_additions_after_it(here, tmp_path):
    path = plans.write_plan(here)
    plan = load_plan(path, ["primary=[band, uniform, loss, held_out]"])
    register(tmp_path, plan, ["uniform", "band"], finished=0, before=None, file=path)
    first = (tmp_path / REGISTERED).read_text()
    register(tmp_path, plan, ["uniform", "band"], finished=2, before=None, file=path)
    assert (tmp_path / REGISTERED).read_text() == first, "a resumed comparison is the same"
    register(tmp_path, plan, ["uniform", "band", "tilt"], finished=3, before=None, file=path)
    entries = registered(tmp_path)
    assert entries is not None
    assert [entry["arms"] for entry in entries] == [["uniform", "band"], ["tilt"]]
    assert json.loads(first)["entries"] == entries[:1]
    assert len(entries[0]["sha256"]) == len(entries[0]["file_sha256"]) == 64
    lines = registration_lines(tmp_path)
    assert "before the first arm; plan SHA-256" in lines[0]
    assert "after 3 runs were finished: arms tilt" in lines[1]


def test_the_check_holds_the_primary_comparison_and_the_marks(tmp_path, here):
    asked = Primary("rho", ("mixed in",), "loss", ("held_out",))
    found, values = results({"primary": asked.to_json()})
    for name, each in (("results.json", found), ("values.json", values)):
        (tmp_path / name).write_text(json.dumps(each))
    entry = {"at": None, "sha256": "", "arms": ["uniform", "mixed in", "rho"], "seeds": [0], "after_runs": 0}
    stated = {"schema": "", "primary": asked.to_json(), "entries": [entry]}
    (tmp_path / REGISTERED).write_text(json.dumps(stated))
    assert check_results(tmp_path)["primary"]["verdict"] == "better"
    for name, change, message in [
        ("results.json", lambda r: r["primary"].update(p=0.5), "primary: p"),
        ("results.json", lambda r: r["primary"].update(sentence="It wins."), "primary: sentence"),
        ("results.json", lambda r: r["families"].pop(), "families"),
        (REGISTERED, lambda r: r["primary"].update(metric="worst_decile"), "states, got another comparison"),
        (REGISTERED, lambda r: r["entries"].append({**entry, "arms": ["rho"], "after_runs": 4}), "added later"),
    ]:
        before = (tmp_path / name).read_text()
        plans.changed(tmp_path, name, change)
        with pytest.raises(SamplewiseError, match=message):
            check_results(tmp_path)
        (tmp_path / name).write_text(before)

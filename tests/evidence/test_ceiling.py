"""The oracle: trained on documents without a label alone, a ceiling, and a plan that stops below it."""

import json

import plans
import pytest
import world
from test_labels import here, kinds_of, plan_of, watched  # noqa: F401  fixtures of the corrupted corpus

from samplewise.core.errors import SamplewiseError
from samplewise.evidence.ceiling import ceiling
from samplewise.evidence.check import check_results
from samplewise.evidence.differences import differences
from samplewise.evidence.experiment import run_plan
from samplewise.evidence.plan_file import load_plan
from samplewise.report.plan_table import plan_table

ORACLE = "controls={oracle: true, rates: [], random: false}"


def test_the_oracle_trains_on_clean_documents_alone(here, tmp_path, watched):  # noqa: F811
    plan = plan_of(here, tmp_path / "out", ORACLE, "seeds=[0]", "budget={steps: 4}", "evaluations=0")
    found = run_plan(plan, say=str)
    assert [arm["name"] for arm in found["arms"]] == ["uniform", "oracle", "band"]
    corrupted = kinds_of(here)
    seen = [{document for document, _, _ in run} for run in watched]
    assert seen[0] & corrupted.keys()
    assert not seen[1] & corrupted.keys()
    assert len(seen[1]) > 5
    oracle = next(arm for arm in found["arms"] if arm["name"] == "oracle")
    assert oracle["ran"]["labels"]["mean"]["labelled"] == {"weight": 0.0, "samples": 0.0, "tokens": 0.0}
    assert "Ceiling: clean documents alone gain" in plan_table(found)
    check_results(tmp_path / "out")


@pytest.mark.slow
def test_a_plan_stops_where_not_even_the_oracle_gains_enough(here, tmp_path):  # noqa: F811
    controls = "controls={oracle: true, stop_early: true, rates: [], random: false}"
    options = [controls, "seeds=[0, 1, 2]", "budget={steps: 1}", "evaluations=0", "min_effect=0.5"]
    said: list[str] = []
    found = run_plan(plan_of(here, tmp_path / "out", *options), say=said.append)
    assert found["complete"]
    assert {each["arm"] for each in found["missing"]} == {"band"}
    assert [line.split(": ")[1].split(",")[0] for line in said if line.startswith("run ")] == ["uniform", "oracle"] * 3
    assert found["ceiling"]["stopped"]
    assert "leaving out all that is labelled gains too little, so the plan stopped" in said[-1]
    check_results(tmp_path / "out")
    run_plan(plan_of(here, tmp_path / "out", *options), say=said.append)
    assert sum(line.startswith("run ") for line in said) == 6, "it stays stopped"
    results = json.loads((tmp_path / "out" / "results.json").read_text())
    results["ceiling"]["stopped"] = False
    (tmp_path / "out" / "results.json").write_text(json.dumps(results))
    with pytest.raises(SamplewiseError, match="ceiling: stopped"):
        check_results(tmp_path / "out")


@pytest.mark.parametrize(("gain", "least", "stops"), [(0.05, 0.02, False), (0.0, 0.02, True), (0.0, 1e-4, False)])
def test_it_stops_by_the_upper_bound_of_the_gain(gain, least, stops):
    arms = [plans.arm("uniform", "control"), plans.arm("oracle", "oracle")]
    values = plans.values({"uniform": 0.0, "oracle": -gain})
    rows = differences(arms, "uniform", plans.documents(100), values, least)
    found = ceiling(arms, rows, least, seeds=5, stop=True)
    assert found is not None
    assert found["stopped"] == stops == (found["high"] < least)
    assert found["low"] < found["gain"] < found["high"]
    assert found["gain"] == pytest.approx(gain, abs=0.006)
    later = ceiling(arms, rows, least, seeds=6, stop=True)
    assert later is not None
    assert not later["stopped"], "a seed is missing yet"


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (["controls.oracle=true"], r"controls\.oracle: expected labels of the corpus, got none"),
        (["controls.oracle=true", "labels=x", "arms.oracle=ir_dro(r=1)"], "no other arm of the name oracle"),
        (["controls.stop_early=true"], r"controls\.stop_early: .*got no oracle"),
        (["controls.oracle=true", "labels=x", "controls.stop_early=true"], "3 seeds or more, got 2 seeds"),
    ],
)
def test_a_ceiling_needs_labels_and_seeds(tmp_path, overrides, message):
    with pytest.raises(SamplewiseError, match=message):
        load_plan(plans.write_plan(tmp_path), overrides)


def test_a_corpus_of_noise_alone_has_no_oracle(tmp_path):
    plans.write_plan(tmp_path)
    rows = {str(i): "noise" for i in range(120)}
    (tmp_path / "labels.json").write_text(json.dumps({"rows": rows}))
    done = world.samplewise(
        "compare", plans.write_plan(tmp_path), ORACLE, f"labels={tmp_path / 'labels.json'}", "seeds=[0]",
        "budget={steps: 1}", "evaluations=0",
    )  # fmt: skip
    assert "documents without a label, got none" in done.stderr

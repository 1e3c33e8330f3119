"""Tuning: every arm alike, on documents of its own, its cost stated, and nothing of it on held-out documents."""

import json
import re

import pytest
import world
from plans import write_plan

from samplewise.evidence.check import check_results
from samplewise.evidence.controls import all_arms
from samplewise.evidence.experiment import run_plan
from samplewise.evidence.initial_model import open_initial_model
from samplewise.evidence.plan_file import load_plan
from samplewise.evidence.run.execute import prepare_any
from samplewise.evidence.slugs import file_of
from samplewise.evidence.trials import trials_of, tuning_of
from samplewise.evidence.tuning import development
from samplewise.report.plan import write_plan as write_report
from samplewise.report.plan_table import plan_table

GRID = "tune={learning_rate: [0.25, 1, 4], documents: 6}"


@pytest.fixture(scope="module")
def here(tmp_path_factory):
    return tmp_path_factory.mktemp("tuning")


@pytest.fixture
def plan(here, tmp_path):
    data = {"path": str(here / "corpus.jsonl"), "max_length": 32, "min_tokens": 4, "held_out": 0.3,
            "held_out_documents": 12}  # fmt: skip
    path = write_plan(here, data=data, budget={"steps": 2}, evaluations=0, seeds=[0], controls={"random": False})
    return load_plan(path, [f"output={tmp_path / 'out'}", GRID])


@pytest.mark.slow
def test_every_arm_takes_the_best_of_as_many_trials(plan, tmp_path):
    said: list[str] = []
    found = run_plan(plan, say=said.append)
    out = tmp_path / "out"
    assert [arm["name"] for arm in found["arms"]] == ["uniform", "band"], "no other rates: it is tuned"
    assert sum(line.startswith("trial: ") for line in said) == 2 * 3
    for arm in all_arms(plan):
        trials = [json.loads(file_of(out / "trials", trial.name, 1000).read_text()) for trial in trials_of(plan, arm)]
        assert [trial["learning_rate"] for trial in trials] == pytest.approx([2.5e-3, 1e-2, 4e-2])
        losses = [trial["after"]["development"]["figures"]["mean"] for trial in trials]
        tuned = next(each["tuned"] for each in found["arms"] if each["name"] == arm.name)
        best = losses.index(min(losses))
        assert tuned["learning_rate"] == [0.25, 1, 4][best]
        assert tuned["cost"] == sum(trial["spent"] for trial in trials) == 6
        assert tuned["at_the_edge"] == ([] if best == 1 else ["learning_rate"])
        run = json.loads(file_of(out, arm.name, 0).read_text())
        assert run["learning_rate"] == pytest.approx(trials[best]["learning_rate"])
        assert {each["id"] for each in run["after"]["held_out"]["documents"]}.isdisjoint(
            each["id"] for each in trials[0]["after"]["development"]["documents"]
        )
    assert "3 trials cost 6" in plan_table(found)
    write_report(out, found)
    assert "which is not a part of the budget" in (out / "report.html").read_text()
    check_results(out)
    run_plan(plan, say=lambda text: pytest.fail(f"nothing was left to do: {text}"))


@pytest.mark.slow
def test_a_batch_is_tuned_too_and_a_trial_that_diverges_is_not_taken(here, tmp_path, plan):
    assert tuning_of(tmp_path / "none", plan, all_arms(plan)[0]) is None
    wild = load_plan(here / "plan.yaml", [
        f"output={tmp_path / 'wild'}", "tune={learning_rate: [1, 1e+40], batch: [0.5, 2], documents: 6}",
        "arms={uniform: uniform()}",
    ])  # fmt: skip
    found = run_plan(wild, say=str)
    tuned = found["arms"][0]["tuned"]
    losses = {(each["learning_rate"], each["batch"]): each["loss"] for each in tuned["trials"]}
    assert losses[1e40, 0.5] is None
    assert losses[1, tuned["batch"]] == min(loss for loss in losses.values() if loss is not None)
    run = json.loads(file_of(tmp_path / "wild", "uniform", 0).read_text())
    assert run["history"]["samples"] == 2 * 2 * 4 * tuned["batch"]


def test_development_documents_are_those_held_out_and_not_evaluated(plan):
    initial = open_initial_model(plan.model)
    data = prepare_any(plan.data, initial.tokenizer, initial.context)
    found = {window.doc_id for window in development(plan, initial, data)}
    assert len(found) == 6
    assert found.isdisjoint(window.doc_id for window in data.held_out)
    assert found.isdisjoint(window.doc_id for window in data.train.windows)


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("tune={learning_rate: [0.5, 1], documents: 500}", r"tune\.documents: expected 500 documents"),
        ("tune={learning_rate: [0.5, 1], documents: 6, path: PATH}", "that are held out, or copies"),
        ("tune={}", "learning_rate or batch"),
        ("tune={learning_rate: [1, 1]}", "different multiples above 0"),
        ("tune={learning_rate: [-1, 1]}", "different multiples above 0"),
        ("tune={batch: [0.3, 1]}", r"tune\.batch: .*got 0\.3 × 4"),
    ],
)
def test_tuning_that_sees_too_much_or_too_little_is_refused(here, tmp_path, plan, override, message):
    override = override.replace("PATH", str(here / "corpus.jsonl"))
    done = world.samplewise("compare", here / "plan.yaml", f"output={tmp_path / 'out'}", override)
    assert done.returncode == 1
    assert re.search(message, done.stderr)
    assert not (tmp_path / "out").exists()


def test_a_path_gives_documents_that_are_not_trained_on(here, tmp_path, plan):
    texts = [json.loads(line) for line in (here / "corpus.jsonl").read_text().splitlines()]
    initial = open_initial_model(plan.model)
    data = prepare_any(plan.data, initial.tokenizer, initial.context)
    held = {document.row for document in data.held_out_documents}
    trained = [text for row, text in enumerate(texts) if row not in held][:5]
    fresh = [{"text": " ".join(reversed(world.WORDS[i : i + 30]))} for i in range(0, 30, 4)]
    (tmp_path / "dev.jsonl").write_text("".join(json.dumps(each) + "\n" for each in [*trained, *fresh]))
    own = load_plan(here / "plan.yaml", [f"tune={{batch: [1, 2], documents: 6, path: {tmp_path / 'dev.jsonl'}}}"])
    rows = {window.row for window in development(own, initial, data)}
    assert rows == set(range(5, 11)), "copies of the training text are left out"

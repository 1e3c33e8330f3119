"""Losses at a fitted temperature and hits of the likeliest token, against an exact fit and by hand."""

from dataclasses import dataclass

import numpy as np
import plans
import pytest
import torch
import torch.nn.functional as F

from samplewise.evidence.derived import derived
from samplewise.evidence.notes import temperature_notes
from samplewise.evidence.outputs import GRID, Outputs, tempered
from samplewise.evidence.plan_file import load_plan
from samplewise.report.plan_table import plan_table


@dataclass
class Row:
    doc_id: int
    tokens: int


ROWS, LENGTH, WORDS = 24, 20, 50
SCALES = np.arange(-500, 800, 4) / 1000
WINDOWS = [Row(i // 2, LENGTH - 1) for i in range(ROWS)]


def batch(sharpness: float = 1.0):
    """Labels drawn from logits that are then made sharper or flatter."""
    draw = torch.Generator().manual_seed(0)
    logits = 2 * torch.randn(ROWS, LENGTH, WORDS, generator=draw)
    labels = torch.zeros(ROWS, LENGTH, dtype=torch.long)
    drawn = torch.multinomial(logits[:, :-1].reshape(-1, WORDS).softmax(-1), 1, generator=draw)
    labels[:, 1:] = drawn.view(ROWS, LENGTH - 1)
    return logits * sharpness, labels


def by_document(logits: torch.Tensor, labels: torch.Tensor, temperature: float) -> np.ndarray:
    loss = F.cross_entropy(logits[:, :-1].transpose(1, 2) / temperature, labels[:, 1:], reduction="none")
    return loss.mean(1).view(-1, 2).mean(1).double().numpy()


def found(logits: torch.Tensor, labels: torch.Tensor) -> dict:
    outputs = Outputs(ROWS)
    for rows in (range(10), range(10, ROWS)):
        outputs.take(list(rows), logits[list(rows)], labels[list(rows)])
    return outputs.by_document(WINDOWS, ["tempered", "accuracy"])


@pytest.mark.parametrize("sharpness", [0.6, 1.0, 1.7])
def test_the_temperature_is_fitted_on_the_other_half(sharpness):
    logits, labels = batch(sharpness)
    own = found(logits, labels)
    for half in (0, 1):
        fitted_on = slice(1 - half, None, 2)
        losses = [by_document(logits, labels, float(np.exp(log)))[fitted_on].mean() for log in SCALES]
        assert np.log(own["temperatures"][half]) == pytest.approx(SCALES[int(np.argmin(losses))], abs=0.006)
        expected = by_document(logits, labels, own["temperatures"][half])[half::2]
        assert own["values"]["tempered"][half::2] == pytest.approx(expected, abs=3e-5)
    assert own["items"] == list(range(12))


def test_a_model_that_is_only_flatter_has_the_same_tempered_loss():
    plain, flat = (found(*batch(sharpness)) for sharpness in (1.0, 0.7))
    assert abs(by_document(*batch(0.7), 1.0).mean() - by_document(*batch(1.0), 1.0).mean()) > 0.05
    assert flat["figures"]["tempered"] == pytest.approx(plain["figures"]["tempered"], abs=1e-4)
    assert flat["values"]["accuracy"] == plain["values"]["accuracy"]


def test_accuracy_counts_predicted_tokens_alone():
    logits, labels = batch()
    labels[:, 10:] = -100
    rows = [Row(row.doc_id, 9) for row in WINDOWS]
    outputs = Outputs(ROWS)
    outputs.take(list(range(ROWS)), logits, labels)
    hits = (logits[:, :9].argmax(-1) == labels[:, 1:10]).double().mean(1).view(-1, 2).mean(1)
    own = outputs.by_document(rows, ["accuracy"])
    assert own["values"]["accuracy"] == pytest.approx(hits.tolist())
    assert "tempered" not in own["values"]


def test_the_grid_holds_what_is_measured_at_one():
    logits, labels = batch()
    outputs = Outputs(ROWS)
    outputs.take(list(range(ROWS)), logits, labels)
    at_one = outputs.nats[:, int(np.argmin(abs(GRID)))].reshape(-1, 2).sum(1) / (2 * (LENGTH - 1))
    assert at_one == pytest.approx(by_document(logits, labels, 1.0), abs=1e-5)
    assert tempered(np.array([(GRID - 0.2) ** 2 + 1]))[0] == pytest.approx([1.0]), "one document is fitted on itself"


# ---- what is said ----


def results(shift: float, at_temperature: float) -> dict:
    values, other = (
        plans.values({"uniform": 0.0, "tilt": shift}),
        plans.values({"uniform": 0.0, "tilt": at_temperature}),
    )
    for arm, seeds in values["after"].items():
        for seed, sets in seeds.items():
            sets["held_out/tempered"] = other["after"][arm][seed]["held_out"]
    documents = plans.documents(100)
    arms = [plans.arm("uniform", "control"), plans.arm("tilt")]
    stated = {
        "complete": True, "missing": [], "failed": [], "seeds": [0], "control": "uniform", "min_effect": 0.005,
        "budget": {"kind": "steps", "amount": 5, "spent": {}}, "arms": [{**arm, "ran": None} for arm in arms],
        "documents": {**documents, "held_out/tempered": documents["held_out"]},
    }  # fmt: skip
    return stated | derived(stated, values)


@pytest.mark.parametrize(
    ("shift", "at_temperature", "said"),
    [
        (-0.02, 0.0, "is not shown any more at a fitted temperature"),
        (-0.02, 0.02, "has the opposite sign at a fitted temperature"),
        (-0.02, -0.02, None), (0.0, -0.02, None),
    ],
)  # fmt: skip
def test_a_difference_that_a_temperature_explains_is_named(shift, at_temperature, said):
    found = results(shift, at_temperature)
    assert [said in note for note in found.get("notes", [])] == ([] if said is None else [True])
    if said is not None:
        assert found["notes"][0] in plan_table(found)


def test_a_difference_that_is_mostly_left_is_not_explained():
    """p is above 5% after correction, and three quarters of the difference are there at the temperature as well."""
    row = {"arm": "tilt", "control": "uniform", "role": "uniform", "at": 1}
    loss = {**row, "set": "web", "metric": "loss", "mean": -0.012, "low": -0.016, "high": -0.008, "p_holm": 0.03}
    tempered = {**loss, "set": "web/tempered", "metric": "tempered", "mean": -0.009, "p_holm": 0.06}
    (note,) = temperature_notes([loss, tempered])
    assert "is not shown after correction" in note
    assert "explains" not in note
    (note,) = temperature_notes([loss, {**tempered, "mean": -0.004}])
    assert "is not shown any more" in note
    assert "explains it" in note


def test_the_measures_are_those_that_there_are(tmp_path):
    path = plans.write_plan(tmp_path)
    plan = load_plan(path, ["measures=[tempered]", "primary=[band, uniform, tempered, held_out]"])
    assert plan.measures == ["tempered"]
    with pytest.raises(ValueError, match="'tempered' or 'accuracy'"):
        load_plan(path, ["measures=[temperature]"])
    with pytest.raises(ValueError, match="a metric that this plan measures, got accuracy"):
        load_plan(path, ["measures=[tempered]", "primary=[band, uniform, accuracy, held_out]"])

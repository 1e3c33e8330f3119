"""A loss of one's own on inputs of unequal length: what is named as padding is cut, and put back where rows meet."""

from dataclasses import replace

import pytest
import torch

import samplewise as sw
from samplewise.core.errors import SamplewiseError
from samplewise.core.micro_batch import MicroBatch, read_micro_batch
from samplewise.engine.options import WeightingOptions
from samplewise.engine.rows import collate, rows_of
from samplewise.engine.step import Step

PADDING = {"ids": 9, "mask": 0}
LENGTHS = [3, 1, 5, 2, 4, 6, 1, 2]


class TextClassifier(torch.nn.Module):
    """The mean of a text's embeddings, and a layer; a padded position counts nothing."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.words, self.layer = torch.nn.Embedding(10, 6), torch.nn.Linear(6, 3)

    def forward(self, ids, mask):
        held = self.words(ids) * mask[..., None]
        return self.layer(torch.tanh(held.sum(1) / mask.sum(1, keepdim=True)))


def classified(model, micro):
    logits = model(micro.inputs["ids"], micro.inputs["mask"])
    loss = torch.nn.functional.cross_entropy(logits, micro.inputs["y"], reduction="none")
    return loss, torch.ones(len(loss), dtype=torch.int64)


def batch(rows: range, width: int | None = None) -> MicroBatch:
    """Those texts, padded to the longest of them; 0, which the mask is padded with, is a word too."""
    width = width or max(LENGTHS[k] for k in rows)
    ids, mask = torch.full((len(rows), width), 9), torch.zeros(len(rows), width)
    for at, k in enumerate(rows):
        ids[at, : LENGTHS[k]] = torch.arange(k, k + LENGTHS[k]) % 9
        mask[at, : LENGTHS[k]] = 1
    labels, names = torch.tensor([k % 3 for k in rows]), torch.tensor(list(rows))
    given = read_micro_batch({"ids": ids, "mask": mask, "y": labels, "sample_id": names})
    return replace(given, padding=PADDING)


@pytest.mark.parametrize("rule", ["ir_dro(r=0.3)", "top_k(0.5)", "random_keep(0.5)"])
def test_rows_of_micro_batches_of_other_widths_are_put_together(rule):
    """Against autograd on the whole step in one batch of one width."""
    model, by_hand, parsed = TextClassifier(), TextClassifier(), sw.parse_rule(rule)
    step = Step(WeightingOptions(rule=rule, losses=classified), torch.device("cpu"))
    step.attach(model)
    step.start()
    for micro in step.prepare(model, [batch(range(k, k + 2)) for k in range(0, 8, 2)]):
        step.loss(model, micro).backward()
    result = step.finish(model.parameters)
    losses, tokens = classified(by_hand, batch(range(8)))
    plan = sw.plan_step(parsed, sw.Samples(losses.detach().double(), tokens, torch.arange(8)), parsed.init())
    (plan.coefficients.to(losses) * losses).sum().backward()
    for mine, whole in zip(model.parameters(), by_hand.parameters(), strict=True):
        torch.testing.assert_close(mine.grad, whole.grad)
    assert result.weighed == 8


def test_a_row_is_cut_where_all_inputs_hold_their_padding():
    rows = rows_of(batch(range(8), width=11))
    assert [row.length for row in rows] == LENGTHS
    again, before = collate(rows[:2]), batch(range(2))
    assert all(torch.equal(again.inputs[key], before.inputs[key]) for key in before.inputs)
    assert again.padding == PADDING


def test_a_row_of_padding_alone_keeps_a_position():
    given = batch(range(2))
    empty = replace(given, inputs={**given.inputs, "ids": torch.full((2, 3), 9), "mask": torch.zeros(2, 3)})
    assert [row.length for row in rows_of(empty)] == [1, 1]


@pytest.mark.parametrize("padding", [{"idz": 0}, {"ids": 9, "y": 0}, {"ids": 9, "other": 0}])
def test_padding_names_inputs_by_position(padding):
    given = batch(range(2))
    given = replace(given, inputs={**given.inputs, "other": torch.zeros(2, 7)}, padding=padding)
    with pytest.raises(SamplewiseError, match=r"^padding: expected names of inputs \[n, T, …\] of one length T"):
        rows_of(given)


def test_counts_that_are_given_are_those_of_the_plan():
    """Rules that choose before any forward read them, as those do that read the loss function's."""
    counts = torch.tensor([4, 1, 7, 2])
    step = Step(WeightingOptions(rule="uniform()", losses=classified), torch.device("cpu"))
    model = TextClassifier()
    step.attach(model)
    step.start()
    for micro in step.prepare(model, [replace(batch(range(4)), counts=counts)]):
        step.loss(model, micro).backward()
    assert step.finish(model.parameters).samples.tokens.tolist() == counts.tolist()

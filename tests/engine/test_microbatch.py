"""Rows cut out of padded micro-batches and dealt into others: nothing lost, nothing twice, no loss changed."""

import math
from collections.abc import Iterable

import pytest
import tiny
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

import samplewise as sw
from samplewise.core.errors import SamplewiseError
from samplewise.core.micro_batch import MicroBatch
from samplewise.engine.dealing import deal, without_empty_rows
from samplewise.engine.padding import without_padding_as_context
from samplewise.engine.rows import Row, collate, rows_of

SEQUENCE = ("input_ids", "attention_mask", "position_ids", "features")


def deal_kept(given, size, count):
    """The rows of positive coefficient, dealt."""
    return deal([row for row in given if float(row.samples["coefficient"]) > 0], given[0], size, count)


def all_rows(batches: Iterable[MicroBatch]) -> list[Row]:
    return [row for batch in batches for row in rows_of(batch)]


def padded(
    lengths: list[int], width: int, *, left: bool = False, first: int = 0, seed: int = 0,
    coefficient: list[float] | None = None,
) -> MicroBatch:  # fmt: skip
    """A padded micro-batch; row k has the id first + k, random content, and a masked prompt of its own length."""
    generator = torch.Generator().manual_seed(seed + first)
    labels = torch.full((len(lengths), width), -100)
    inputs = {
        "input_ids": torch.zeros(len(lengths), width, dtype=torch.int64),
        "attention_mask": torch.zeros(len(lengths), width, dtype=torch.int64),
        "position_ids": torch.zeros(len(lengths), width, dtype=torch.int64),
        "features": torch.zeros(len(lengths), width, 2, dtype=torch.float64),
    }
    for k, length in enumerate(lengths):
        at = slice(width - length, width) if left else slice(0, length)
        ids = torch.randint(0, tiny.VOCABULARY, (length,), generator=generator)  # 0, the pad id, among them
        inputs["input_ids"][k, at] = ids
        labels[k, at] = torch.where(torch.arange(length) < k % 3, -100, ids)
        inputs["attention_mask"][k, at] = 1
        inputs["position_ids"][k, at] = torch.arange(length)
        inputs["features"][k, at] = torch.rand(length, 2, generator=generator, dtype=torch.float64)
    names = torch.arange(first, first + len(lengths))
    counts = None if coefficient is None else torch.tensor(coefficient, dtype=torch.float64)
    return MicroBatch(inputs, labels, names, coefficient=counts)


def content(batches: Iterable[MicroBatch]) -> dict[int, dict[str, Tensor]]:
    """Every row of positive coefficient by id, without its padding (by attention)."""
    found: dict[int, dict[str, Tensor]] = {}
    for batch in batches:
        for k, name in enumerate(batch.id.tolist()):
            if batch.coefficient[k] > 0:
                assert name not in found, "a row was dealt twice"
                used = batch.inputs["attention_mask"][k] != 0
                found[name] = {key: batch.inputs[key][k, used] for key in SEQUENCE}
                found[name] |= {"labels": batch.labels[k, used], "coefficient": batch.coefficient[k]}
                assert (batch.labels[k, ~used] == -100).all(), "padding predicts nothing"
    return found


@st.composite
def steps(draw: st.DrawFn) -> tuple[list[MicroBatch], bool]:
    """The padded micro-batches of a step, of different widths, and the side they are padded on."""
    left, first, batches = draw(st.booleans()), 0, []
    for _ in range(draw(st.integers(1, 4))):
        lengths = draw(st.lists(st.integers(1, 9), min_size=1, max_size=5))
        kept = draw(st.lists(st.booleans(), min_size=len(lengths), max_size=len(lengths)))
        coefficient = [keep * (first + 1.0 + k) for k, keep in enumerate(kept)]
        width = max(lengths) + draw(st.integers(0, 3))
        batches.append(padded(lengths, width, left=left, first=first, coefficient=coefficient))
        first += len(lengths)
    return batches, left


@settings(max_examples=150, deadline=None)
@given(steps(), st.integers(1, 6), st.integers(0, 6))
def test_every_kept_row_is_dealt_once_with_its_content(step, size, count):
    batches, left = step
    dealt = deal_kept(all_rows(batches), size, count)
    before, after = content(batches), content(dealt)
    assert before.keys() == after.keys()
    for name, row in before.items():
        for key, value in row.items():
            first = int(key == "labels")  # nothing predicts a row's first token, and padding on the left must not
            then = after[name][key]
            assert torch.equal(value[first:] if first else value, then[first:] if first else then), (name, key)
            assert value.dtype == after[name][key].dtype
    sizes = [len(batch.labels) for batch in dealt]
    assert len(dealt) == max(count, math.ceil(len(before) / size), 1), "exactly as many as every rank makes"
    assert max(sizes) <= size
    assert min(sizes) >= 1
    assert max(sizes) - min(sizes) <= 1
    blank = sum(int((batch.coefficient == 0).sum()) for batch in dealt)
    assert sum(sizes) == len(before) + blank
    assert blank == max(0, len(dealt) - len(before)), "blank rows only where a micro-batch would have none"
    for batch in dealt:
        mask = batch.inputs["attention_mask"]
        first, last = mask[:, 0], mask[:, -1]
        assert (first == 1).all() or (left and (last == 1).all()), (
            "padded on one side, and on the left only if they came so"
        )
        assert batch.labels.shape[1] == max(2 * (batch.coefficient == 0).any(), mask.sum(1).max())
        tensors = {**batch.inputs, **batch.position_fields(), **batch.sample_fields()}
        assert {key: value.shape[0] for key, value in tensors.items()} == dict.fromkeys(tensors, len(batch.labels))


def test_like_lengths_stand_together():
    """The padding of a step of mixed lengths is nearly gone."""
    batch = padded([1, 8, 2, 9, 1, 8, 2, 9], 12, coefficient=[1.0] * 8)
    assert [tuple(b.labels.shape) for b in deal_kept(rows_of(batch), 2, 4)] == [(2, 1), (2, 2), (2, 8), (2, 9)]


@pytest.mark.parametrize("left", [False, True])
def test_collate_is_the_inverse_of_rows(left):
    batch = without_padding_as_context(padded([3, 7, 5], 7, left=left))
    again = collate(rows_of(batch))
    for part in ("inputs", "position", "sample"):
        before, after = (
            micro.inputs if part == "inputs" else getattr(micro, f"{part}_fields")() for micro in (batch, again)
        )
        assert before.keys() == after.keys()
        for key in before:
            assert torch.equal(before[key], after[key]), key


def test_the_mask_decides_and_not_the_id():
    """Pad and end-of-text may have one id: those that are attended to are text."""
    inputs = {
        "input_ids": torch.tensor([[2, 5, 2, 2, 2], [5, 6, 7, 8, 2]]),
        "attention_mask": torch.tensor([[1, 1, 1, 1, 0], [1, 1, 1, 1, 1]]),
    }
    labels = torch.tensor([[2, 5, 2, 2, -100], [5, 6, 7, 8, 2]])
    batch = MicroBatch(inputs, labels, torch.arange(2), coefficient=torch.ones(2))
    assert [row.inputs["input_ids"].tolist() for row in rows_of(batch)] == [[2, 5, 2, 2], [5, 6, 7, 8, 2]]
    (dealt,) = deal_kept(rows_of(batch)[:1], 2, 1)
    assert dealt.inputs["input_ids"].tolist() == [[2, 5, 2, 2]]


def test_a_hole_in_the_mask_stays_and_so_does_what_is_predicted_outside_it():
    inputs = {"input_ids": torch.tensor([[4, 5, 6, 7, 8, 0]]), "attention_mask": torch.tensor([[1, 0, 1, 1, 0, 0]])}
    (row,) = rows_of(MicroBatch(inputs, torch.tensor([[-100, -100, 6, 7, 8, -100]]), torch.arange(1)))
    assert row.inputs["attention_mask"].tolist() == [1, 0, 1, 1, 0]
    assert row.targets["labels"].tolist() == [-100, -100, 6, 7, 8]


def test_without_a_mask_a_row_is_whole():
    inputs = {"input_ids": torch.tensor([[4, 5, 0]])}
    assert rows_of(MicroBatch(inputs, torch.tensor([[4, -100, -100]]), torch.arange(1)))[0].length == 3


@pytest.mark.parametrize(
    ("key", "value"),
    [("scalar", torch.tensor(1)), ("short", torch.zeros(2, 5)), ("text", ["a", "b", "c"]), ("none", None)],
)
def test_what_is_not_by_row_is_named(key, value):
    batch = padded([3, 4, 5], 5)
    batch.inputs[key] = value
    with pytest.raises(SamplewiseError, match=rf"^{key}: expected a tensor of 3 rows"):
        rows_of(batch)


# ---- through a model ----


def losses(model: torch.nn.Module, batch: MicroBatch, keys: Iterable[str]) -> Tensor:
    logits = model(**{key: batch.inputs[key] for key in keys}).logits
    return sw.sample_losses(logits, batch.targets)[0]


def by_name(model: torch.nn.Module, batches: list[MicroBatch], keys: Iterable[str]) -> dict[int, float]:
    with torch.no_grad():
        return {
            name: loss
            for batch in batches
            for name, loss, c in zip(
                batch.id.tolist(), losses(model, batch, keys).tolist(), batch.coefficient.tolist(), strict=True
            )
            if c > 0
        }


def example(left: bool) -> list[MicroBatch]:
    return [
        padded([4, 9, 6, 2], 11, left=left, coefficient=[0.1, 0.0, 0.3, 0.05]),
        padded([7, 3, 3], 7, left=left, first=4, coefficient=[0.25, 0.3, 0.0]),
    ]


PLAIN, PLACED = ("input_ids", "attention_mask"), ("input_ids", "attention_mask", "position_ids")


@pytest.mark.parametrize(
    ("kind", "left", "keys"),
    [("llama", False, PLAIN), ("llama", True, PLACED), ("llama", False, PLACED), ("opt", False, PLAIN),
     ("opt", True, PLAIN), ("gpt2", False, PLAIN), ("gpt2", True, PLACED)],
)  # fmt: skip
def test_a_row_has_the_loss_it_had_where_it_came_from(kind, left, keys):
    model, batches = tiny.model(kind, dtype=torch.float64).eval(), example(left)
    for batch in batches:
        batch.labels[batch.inputs["position_ids"] == 0] = -100  # on the left, padding would predict a row's first token
    before = by_name(model, batches, keys)
    assert len(before) == 5
    for size, count in ((1, 1), (2, 3), (5, 1), (4, 7)):
        after = by_name(model, deal_kept(all_rows(batches), size, count), keys)
        assert after == pytest.approx(before, rel=0, abs=1e-12)


@pytest.mark.parametrize("left", [False, True])
def test_a_row_has_one_loss_whatever_micro_batch_it_is_dealt_into(left):
    """Its first token is predicted by nothing: not by the padding before it either, where some is left."""
    model = tiny.model(dtype=torch.float64).eval()
    batches = [without_padding_as_context(batch) for batch in example(left)]
    given = all_rows(batches)
    alone = by_name(model, deal_kept(given, 1, 5), PLACED)
    for size in (2, 3, 5):
        assert by_name(model, deal_kept(given, size, 1), PLACED) == pytest.approx(alone, rel=0, abs=1e-12)


def gradient(model: torch.nn.Module, batches: list[MicroBatch]) -> Tensor:
    """The gradient that micro-batches accumulate, all parameters in one vector."""
    model.zero_grad()
    for batch in batches:
        (batch.coefficient * losses(model, batch, PLAIN)).sum().backward()
    return torch.cat([p.grad.flatten() for p in model.parameters() if p.grad is not None])


@pytest.mark.parametrize("count", [1, 3, 5, 9])
def test_the_accumulated_gradient_is_that_of_the_step(count):
    """Also where a rank is short of rows, and blank ones fill its micro-batches."""
    model, batches = tiny.model(dtype=torch.float64), example(left=False)
    whole = gradient(model, batches)
    dealt = deal_kept(all_rows(batches), 5, count)
    assert len(dealt) == count
    torch.testing.assert_close(gradient(model, dealt), whole, rtol=0, atol=1e-12)
    assert whole.norm() > 0.01


@pytest.mark.parametrize("kind", ["llama", "opt", "gpt2"])
@pytest.mark.parametrize("masked", [True, False])
def test_blank_rows_alone_give_a_gradient_of_zeros(kind, masked):
    """A rank of which nothing was kept still makes its forward and backward calls."""
    model, batch = tiny.model(kind, dtype=torch.float64), padded([3, 5], 5, coefficient=[0.0, 0.0])
    if not masked:
        del batch.inputs["attention_mask"]
    model.zero_grad()
    dealt = deal_kept(rows_of(batch), 2, 3)
    assert len(dealt) == 3
    for each in dealt:
        keys = PLAIN if masked else ("input_ids",)
        (each.coefficient * losses(model, each, keys)).sum().backward()
    found = [p.grad for p in model.parameters()]
    assert all(grad is not None and (grad == 0).all() for grad in found)


def test_a_row_that_is_all_padding_does_not_turn_the_others_around():
    """An empty row is no sample; the rows beside it stay padded on the right, where GPT-2 counts its positions from."""
    model = tiny.model("gpt2", dtype=torch.float64).eval()
    batch = padded([3, 6, 4], 6, coefficient=[1.0, 1.0, 0.0])
    batch.inputs["attention_mask"][2], batch.labels[2] = 0, -100
    before = by_name(model, [batch], PLAIN)
    (dealt,) = deal_kept(rows_of(batch), 2, 1)
    assert dealt.inputs["attention_mask"].tolist() == [[1, 1, 1, 0, 0, 0], [1] * 6]
    assert by_name(model, [dealt], PLAIN) == pytest.approx(before, rel=0, abs=1e-12)


def test_without_empty_rows():
    """Those that predict nothing go, the others stay as they are; where none is left, a blank one is."""
    model = tiny.model("gpt2", dtype=torch.float64).eval()
    batch = padded([3, 6, 4, 1], 6, coefficient=[0.5, 0.25, 0.0, 0.0])
    batch.inputs["attention_mask"][2], batch.labels[2] = 0, -100
    (left,) = without_empty_rows([batch])
    assert left.id.tolist() == [0, 1]
    assert by_name(model, [left], PLAIN) == pytest.approx(by_name(model, [batch], PLAIN), rel=0, abs=1e-12)
    assert without_empty_rows([left])[0] is left, "nothing to leave out"
    batch.labels[:] = -100
    (blank,) = without_empty_rows([batch])[0].labels
    assert blank.tolist() == [-100, -100]

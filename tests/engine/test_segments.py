"""Packed rows cut at their segments and packed again; turns; ids of parts. Against plain loops and through a model."""

import pytest
import tiny
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

import samplewise as sw
from samplewise.core.micro_batch import MicroBatch
from samplewise.engine.dealing import deal, micro_batches_needed, spread, without_empty_rows
from samplewise.engine.exchange import fair_shares, worth_moving
from samplewise.engine.rows import capacity_of, collate, is_packed, rows_of
from samplewise.losses.segments import boundaries, nested_ids, part_numbers, segments_of, split_turns

lengths_of = st.lists(st.integers(1, 7), min_size=1, max_size=6)


def packed(lengths: list[int], *, padding: int = 0, first: int = 0, derived: bool = True) -> MicroBatch:
    """One flat row of segments with random content, as TRL's collator makes it; sample k has the id first + k."""
    generator = torch.Generator().manual_seed(first + sum(lengths))
    width = sum(lengths) + padding
    ids = torch.randint(3, tiny.VOCABULARY, (1, width), generator=generator)
    position = torch.cat([*(torch.arange(n) for n in lengths), torch.zeros(padding, dtype=torch.int64)])[None]
    labels = torch.where(position == 0, -100, ids)
    labels[0, sum(lengths) :] = -100
    names = frozenset({"cu_seq_lens_q", "cu_seq_lens_k", "max_length_q", "max_length_k", "seq_idx"})
    return MicroBatch(
        {"input_ids": ids, "position_ids": position, **(boundaries(position, names) if derived else {})},
        labels,
        torch.arange(first, first + len(lengths)),
        segments=segments_of(lengths, width),
        weight=torch.rand(len(lengths), generator=generator, dtype=torch.float64),
        coefficient=torch.arange(1.0, len(lengths) + 1).double(),
    )


def content(batch: MicroBatch) -> dict[int, tuple]:
    """Every sample by id: its tokens and fields, found by a plain loop over positions."""
    found = {}
    for k, name in enumerate(batch.id.tolist()):
        own = batch.segments[0] == k
        found[name] = (
            batch.inputs["input_ids"][0, own].tolist(), batch.labels[0, own].tolist(),
            batch.inputs["position_ids"][0, own].tolist(), float(batch.weight[k]), float(batch.coefficient[k]),
        )  # fmt: skip
    return found


@settings(max_examples=100, deadline=None)
@given(st.lists(lengths_of, min_size=1, max_size=3), st.integers(0, 3), st.integers(1, 4), st.data())
def test_every_kept_segment_is_packed_once_with_its_content(steps, padding, count, data):
    batches = [packed(lengths, padding=padding, first=100 * k) for k, lengths in enumerate(steps)]
    given_rows = [row for batch in batches for row in rows_of(batch)]
    assert len(given_rows) == sum(map(len, steps)), "padding is no segment"
    kept = [row for row in given_rows if data.draw(st.booleans())]
    dealt = deal(kept, given_rows[0], 1, count)
    assert len(dealt) == count
    before = {name: sample for batch in batches for name, sample in content(batch).items()}
    after = {name: each for batch in dealt for name, each in content(batch).items() if each[-1] > 0}
    assert after == {int(row.samples["id"]): before[int(row.samples["id"])] for row in kept}
    loads = [sum(len(each[0]) for each in content(batch).values() if each[-1] > 0) for batch in dealt]
    assert max(loads) - min(loads) <= 7, "none is fuller than another by more than a segment"
    for batch in dealt:
        assert is_packed(batch)
        starts = (batch.inputs["position_ids"][0] == 0).nonzero().squeeze(1).tolist()
        assert batch.inputs["cu_seq_lens_q"].tolist() == [*starts, capacity_of(batch)]
        assert batch.inputs["max_length_k"] == int(batch.inputs["cu_seq_lens_q"].diff().max())
        assert batch.inputs["seq_idx"][0].tolist() == batch.segments[0].tolist()


def test_collate_packs_again_what_rows_cut():
    batch = packed([3, 1, 4])
    again = collate(rows_of(batch))
    before, after = ({**m.inputs, **m.position_fields(), **m.sample_fields()} for m in (batch, again))
    assert before.keys() == after.keys()
    for key, value in before.items():
        assert torch.equal(value, after[key]) if isinstance(value, torch.Tensor) else value == after[key], key


@pytest.mark.parametrize("kind", ["llama", "gpt2"])
def test_a_segment_has_one_loss_whatever_row_it_is_packed_into(kind):
    model = tiny.model(kind, dtype=torch.float64).eval()

    def losses(batch):
        inputs = {key: batch.inputs[key] for key in ("input_ids", "position_ids")}
        logits = model(**inputs, use_cache=False).logits
        loss, _ = sw.sample_losses(logits, batch.labels, segments=batch.segments)
        return dict(zip(batch.id.tolist(), loss.tolist(), strict=True))

    with torch.no_grad():
        first, second = packed([3, 6, 2], padding=2), packed([5, 4], first=10)
        before = losses(first) | losses(second)
        given_rows = rows_of(first) + rows_of(second)
        for count in (1, 2, 5):
            after = {}
            for batch in deal(given_rows, given_rows[0], 1, count):
                after |= losses(batch)
            assert after == pytest.approx(before, abs=1e-12)


def test_empty_segments_are_left_out_of_one_pass():
    batch = packed([3, 1, 4])
    assert without_empty_rows([batch])[0].id.tolist() == [0, 2], "a segment of one token predicts nothing"
    whole = packed([3, 2])
    assert without_empty_rows([whole])[0] is whole


# ---- turns ----


@settings(max_examples=100, deadline=None)
@given(st.lists(st.lists(st.booleans(), min_size=1, max_size=12), min_size=1, max_size=4))
def test_turns_are_runs_of_predicted_labels(samples):
    """Against a loop: the turn of a position is the number of runs that have ended before it in its sample."""
    flat = torch.tensor([[5 if predicted else -100 for sample in samples for predicted in sample]])
    segments, parent = split_turns(flat, segments_of([len(sample) for sample in samples], flat.shape[1]))
    expected, parents, start = [], [], 0
    for number, sample in enumerate(samples):
        ended, own = 0, []
        for at, predicted in enumerate(sample):
            own.append(ended)
            ended += predicted and (at + 1 == len(sample) or not sample[at + 1])
        turns = max(1, ended)
        expected += [start + min(turn, turns - 1) for turn in own]
        parents += [number] * turns
        start += turns
    assert segments[0].tolist() == expected
    assert parent.tolist() == parents


def test_turns_of_padded_rows_keep_every_token():
    """All predicted tokens of a row, in its turns together: the row's loss is their token-weighted mean."""
    model = tiny.model(dtype=torch.float64).eval()
    ids = torch.randint(3, tiny.VOCABULARY, (2, 9), generator=torch.Generator().manual_seed(0))
    labels = torch.where(torch.tensor([[0, 0, 1, 1, 0, 1, 0, 1, 1], [0, 1, 0, 0, 0, 0, 0, 0, 0]]) == 1, ids, -100)
    with torch.no_grad():
        logits = model(ids).logits
        whole, n = sw.sample_losses(logits, labels)
        segments, parent = split_turns(labels, None)
        turns, tokens = sw.sample_losses(logits, labels, segments=segments)
    assert parent.tolist() == [0, 0, 0, 1]
    assert tokens.tolist() == [2, 1, 2, 1]
    for row in range(2):
        own = parent == row
        assert float((turns[own] * tokens[own]).sum() / tokens[own].sum()) == pytest.approx(float(whole[row]))
        assert int(tokens[own].sum()) == int(n[row])


@given(st.lists(st.integers(0, 2**63 - 1), min_size=1, max_size=20, unique=True), st.integers(1, 5))
def test_parts_have_ids_of_their_own(ids, parts):
    parent = torch.arange(len(ids)).repeat_interleave(parts)
    number = part_numbers(parent)
    nested = nested_ids(torch.tensor(ids)[parent], number)
    assert nested[number == 0].tolist() == ids
    assert (nested >= 0).all()
    assert nested.unique().numel() == len(nested)


# ---- how many, and where ----


@given(st.lists(st.integers(1, 50), min_size=1, max_size=30), st.integers(50, 120))
def test_micro_batches_hold_what_fits(sizes, capacity):
    count = micro_batches_needed(sizes, capacity)
    parts = spread(sizes, count)
    assert sorted(i for part in parts for i in part) == list(range(len(sizes)))
    assert max(sum(sizes[i] for i in part) for part in parts) <= capacity
    assert count >= sum(sizes) / capacity


@given(st.lists(st.lists(st.integers(1, 20), max_size=12), min_size=1, max_size=5))
def test_shares_are_fair_and_whole(sizes):
    shares = fair_shares(sizes)
    dealt = [row for share in shares for row in share]
    assert sorted(dealt) == [(owner, number) for owner, own in enumerate(sizes) for number in range(len(own))]
    loads = [sum(sizes[owner][number] for owner, number in share) for share in shares]
    largest = max((size for own in sizes for size in own), default=0)
    assert max(loads) - min(loads) <= max(2 * largest, 1)
    if largest <= 1:
        assert max(loads) - min(loads) <= 1
    assert not worth_moving([[1, 1]], 2)


def test_padding_whose_positions_go_on_belongs_to_no_segment():
    """A collator may count on through its padding: the last segment keeps its sample, and nothing of the padding."""
    from samplewise.core.micro_batch import MicroBatch
    from samplewise.engine.rows import rows_of

    ids = torch.tensor([[5, 6, 7, 8, 9, 0, 0]])
    micro = MicroBatch(
        {"input_ids": ids, "position_ids": torch.tensor([[0, 1, 0, 1, 2, 3, 4]])},
        labels=ids.masked_fill(ids == 0, -100), id=torch.tensor([3, 4]),
        segments=torch.tensor([[0, 0, 1, 1, 1, -1, -1]]),
    )  # fmt: skip
    assert [(row.samples["id"].tolist(), row.length) for row in rows_of(micro)] == [([3], 2), ([4], 3)]

"""Masks that number samples 1, 1, 2, 2, 3, and bins of a sampler that packs: everything as in padded rows."""

import hosts
import pytest
import tiny
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from samplewise import SamplewiseError
from samplewise.losses.segments import numbered_runs, read_numbered_mask
from samplewise.trainers import WeightedStep, WeightedTrainer
from samplewise.trainers.collate import FieldsCollator, PlainCollator

N = 8
COLUMNS = {
    "token_weights": [[1.0 + (i + t) % 3 for t in range(6 + i % 7)] for i in range(N)],
    "sample_weight": [1.0 + i % 3 for i in range(N)],
    "sample_id": [50 + i for i in range(N)],
}
OPTIONS = {
    "one pass": {"rule": "ir_dro(r=0.3)"},
    "two passes": {"rule": "chain(band(drop_top=0.25), ir_dro(r=0.3))"},
    "columns": {"rule": "chain(column_weights(), ir_dro(r=0.3))"},
    "per token": {"rule": "ir_dro(r=0.3)", "per": "token"},
    "turns": {"rule": "ir_dro(r=0.3)", "turns": True},
}


def multipack(mask="numbered", *, positions=False, spare=3, extra=None):
    """A collator of bins, each a row padded beyond the longest: as axolotl's; `mask`: numbered, ones or none."""

    def collate(bins):
        width = max(sum(len(row["input_ids"]) for row in own) for own in bins) + spare
        out = {key: [] for key in ("input_ids", "labels", "attention_mask", "position_ids")}
        for own in bins:
            lengths = [len(row["input_ids"]) for row in own]
            missing = width - sum(lengths)
            number = [k + 1 if mask == "numbered" else 1 for k, n in enumerate(lengths) for _ in range(n)]
            out["input_ids"].append([t for row in own for t in row["input_ids"]] + [0] * missing)
            out["labels"].append([t for row in own for t in row["labels"]] + [-100] * missing)
            out["attention_mask"].append(number + [0] * missing)
            out["position_ids"].append([t for n in lengths for t in range(n)] + list(range(missing)))
        if mask == "none":
            del out["attention_mask"]
        if not positions:
            del out["position_ids"]
        return {key: torch.tensor(value) for key, value in out.items()} | (extra or {})

    return collate


def stepped(batches, options):
    """The gradient of one step, and its result."""
    model, run = tiny.model("llama", dtype=torch.float64), hosts.Run()
    step = WeightedStep(model, observers=[run], **{k: v for k, v in options.items() if k != "turns"})
    for micro in step.plan(batches):
        step.backward(micro)
    step.finish()
    return hosts.flat(model), run.results[0]


def same(one, other):
    gradient, result = one
    assert float((gradient - other[0]).norm() / other[0].norm()) < 1e-6  # the norms of the model are fp32
    assert result.samples.id.tolist() == other[1].samples.id.tolist()
    torch.testing.assert_close(result.samples.loss, other[1].samples.loss, rtol=1e-6, atol=1e-6)
    torch.testing.assert_close(result.weights, other[1].weights, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("collate", [
    multipack(), multipack("ones"), multipack("none", positions=True), multipack(positions=True, spare=0),
], ids=["numbered", "ones", "positions", "both"])  # fmt: skip
@pytest.mark.parametrize("name", OPTIONS)
@pytest.mark.fast_cover(1)
def test_bins_are_the_padded_rows(name, collate):
    rows, options = hosts.rows(N, answers=2, **COLUMNS), OPTIONS[name]
    turns = options.get("turns", False)
    padded = FieldsCollator(hosts.padded, turns=turns)
    packed = FieldsCollator(collate, turns=turns)
    batches = [padded([rows[i] for i in part]) for part in (range(4), range(4, 8))]
    bins = [[[rows[0], rows[1]], [rows[2], rows[3]]], [[rows[4]], [rows[5], rows[6], rows[7]]]]
    same(stepped([packed(each) for each in bins], options), stepped(batches, options))


def test_a_lone_sample_in_its_bin_is_packed_too():
    """Rows of several micro-batches are put together: all of a step must be of one form."""
    rows = hosts.rows(N, **COLUMNS)
    packed = FieldsCollator(multipack())
    bins = [[[row]] for row in [rows[i] for i in range(4)]] + [[[rows[4], rows[5]], [rows[6], rows[7]]]]
    padded = FieldsCollator(hosts.padded)
    batches = [padded([rows[i] for i in part]) for part in (range(4), range(4, 8))]
    options = OPTIONS["two passes"]
    same(stepped([packed(each) for each in bins], options), stepped(batches, options))


def numbered(features):
    """All rows in one by a collator of one's own that numbers them, without positions."""
    return multipack()([features])


@pytest.mark.parametrize("name", ["one pass", "two passes", "columns", "per token"])
@pytest.mark.fast_cases("one pass", "per token")
def test_a_numbered_mask_in_the_trainer(tmp_path, name):
    """Before, the model would have read it as true or false, and let samples see one another."""
    found = []
    for collate in (hosts.padded, numbered):
        args = tiny.arguments(
            tmp_path, per_device_train_batch_size=4, max_steps=1, max_grad_norm=0.0, learning_rate=1.0, optim="sgd"
        )
        model = tiny.model("llama", dtype=torch.float64)
        trainer = WeightedTrainer(
            model, args, train_dataset=hosts.rows(N, **COLUMNS), data_collator=collate, **OPTIONS[name]
        )
        trainer.train()
        found.append(torch.cat([p.detach().flatten() for p in model.parameters()]))
    assert float((found[1] - found[0]).abs().max()) < 1e-6


def test_a_numbered_mask_without_our_collator():
    """A loop of one's own may make its batches by itself."""
    rows = hosts.rows(N)
    batch = numbered([rows[i] for i in range(N)]) | {"sample_id": torch.arange(N)}
    padded = hosts.padded([rows[i] for i in range(N)]) | {"sample_id": torch.arange(N)}
    same(stepped([batch], OPTIONS["one pass"]), stepped([padded], OPTIONS["one pass"]))
    with pytest.raises(SamplewiseError, match="sample_id: expected one for each of the 8 samples that attention_mask"):
        stepped([batch | {"sample_id": torch.arange(1)}], OPTIONS["one pass"])


def test_rows_that_were_packed_before_with_a_numbered_mask():
    """Each feature holds several samples; its columns hold a value each."""
    rows = hosts.rows(N)
    features = []
    for part in (range(3), range(3, 8)):
        own = [rows[i] for i in part]
        features.append({
            "input_ids": [t for r in own for t in r["input_ids"]], "labels": [t for r in own for t in r["labels"]],
            "attention_mask": [k + 1 for k, r in enumerate(own) for _ in r["input_ids"]], "sample_id": list(part),
        })  # fmt: skip

    def collate(given):
        width = max(len(f["input_ids"]) for f in given)
        fills = {"input_ids": 0, "labels": -100, "attention_mask": 0}
        return {key: torch.tensor([f[key] + [fill] * (width - len(f[key])) for f in given])
                for key, fill in fills.items()}  # fmt: skip

    padded = hosts.padded([rows[i] for i in range(N)]) | {"sample_id": torch.arange(N)}
    for rule in ("one pass", "two passes"):
        same(stepped([FieldsCollator(collate)(features)], OPTIONS[rule]), stepped([padded], OPTIONS[rule]))


@settings(max_examples=200, deadline=None)
@given(st.lists(st.lists(st.integers(1, 4), max_size=4), min_size=1, max_size=3), st.integers(1, 3))
def test_runs_against_a_loop(bins, spare):
    width = max(map(sum, bins)) + spare
    mask, samples, places, count = [], [], [], 0
    for own in bins:
        row = [k + 1 for k, n in enumerate(own) for _ in range(n)]
        missing = width - len(row)
        mask.append(row + [0] * missing)
        for n in own:
            samples, places, count = samples + [count] * n, places + list(range(n)), count + 1
        samples, places = samples + [-1] * missing, places + list(range(missing))
    segments, position = numbered_runs(torch.tensor(mask))
    assert segments[0].tolist() == samples
    assert position[0].tolist() == places


def test_a_mask_of_ones_numbers_nothing():
    batch = {"input_ids": torch.ones(2, 3), "attention_mask": torch.tensor([[1, 1, 0], [1, 1, 1]])}
    assert read_numbered_mask(batch) == batch


def test_evaluation_gets_bins_without_our_columns():
    rows = hosts.rows(N, **COLUMNS)
    seen = []
    PlainCollator(seen.append)([[rows[0], rows[1]], [rows[2]]])
    keys = ["input_ids", "labels"]
    assert [[sorted(row) for row in own] for own in seen[0]] == [[keys, keys], [keys]]


@pytest.mark.parametrize("wrong", ["reordered", "left", "dropped"])
def test_a_collator_of_bins_that_does_not_keep_the_tokens(wrong):
    rows = hosts.rows(N)

    def collate(bins):
        if wrong == "reordered":
            return multipack()([own[::-1] for own in bins])
        if wrong == "dropped":
            return multipack()([own[:-1] for own in bins])
        return {key: value.roll(3, dims=1) for key, value in multipack()(bins).items()}

    with pytest.raises(SamplewiseError, match="data_collator: expected 2 rows that hold the tokens of 4 samples"):
        FieldsCollator(collate)([[rows[0], rows[1]], [rows[2], rows[3]]])


def test_a_collator_that_numbers_what_its_rows_are_not():
    rows = hosts.rows(N)
    collate = FieldsCollator(lambda given: multipack()([[given[0], given[0]]]))
    with pytest.raises(SamplewiseError, match="data_collator: expected the 3 samples of its rows, in order"):
        collate([rows[0], rows[1], rows[2]])

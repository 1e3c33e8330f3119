"""What belongs to samples reaches the step from the dataset: weights, groups, references, weights of tokens."""

import math

import datasets
import pytest
import tiny
import torch
from test_trl import FORMS, LONGEST, ROWS, Watched, conversations, tokenizer, trained
from transformers import DataCollatorForSeq2Seq, DataCollatorWithFlattening

import samplewise as sw
from samplewise.core.columns import SEGMENTS
from samplewise.trainers import WeightedTrainer
from samplewise.trainers.collate import FieldsCollator

WEIGHTS = [round(0.25 * (k % 5), 2) for k in range(ROWS)]  # zeros among them
COLUMNS = {
    "sample_id": [2**60 + 7 * k for k in range(ROWS)],
    "sample_weight": WEIGHTS,
    "group": [k % 3 for k in range(ROWS)],
    "reference_loss": [1.0 + 0.1 * k for k in range(ROWS)],
}


@pytest.mark.parametrize("form", FORMS)
def test_columns_survive_preparation_and_packing(tmp_path, form):
    trainer, _ = trained(tmp_path, form, "chain(column_weights(), ir_dro(r=1.0))", data=conversations(**COLUMNS))
    for _, samples, weights, _ in trainer.steps:
        assert samples.id.tolist() == COLUMNS["sample_id"]
        assert samples.weight.tolist() == WEIGHTS
        assert samples.group.tolist() == COLUMNS["group"]
        assert samples.reference.tolist() == COLUMNS["reference_loss"]
        given = torch.tensor(WEIGHTS, dtype=torch.float64)
        expected = given * torch.exp(samples.loss)
        torch.testing.assert_close(weights, expected / expected.sum() * (given > 0).sum() / (given > 0).double().mean())


def test_columns_of_packed_rows_as_arrays_of_numpy(tmp_path):
    data = conversations(**COLUMNS).with_format("numpy")
    trainer, _ = trained(tmp_path, "bfd", "column_weights()", data=data, max_steps=1)
    assert trainer.steps[0][1].id.tolist() == COLUMNS["sample_id"]
    assert trainer.steps[0][1].weight.tolist() == WEIGHTS


def test_one_pass_with_column_weights(tmp_path):
    """Two products of factors: the second step of the chain runs in one pass and gives the gradient of the first."""
    trainer, gradients = trained(
        tmp_path, "bfd", "chain(column_weights(), ir_dro(r=0.5))", 4, data=conversations(**COLUMNS)
    )
    assert [name for name, *_ in trainer.steps] == ["two_pass", "one_pass"]
    assert (gradients[0] - gradients[1]).norm() <= 1e-5 * gradients[0].norm()


@pytest.mark.parametrize("rule", ["column_weights()", "chain(column_weights(), ir_dro(r=0.5))"])
def test_a_segment_of_weight_zero_is_not_there(tmp_path, rule):
    """The gradient of packed rows with dropped segments is that of the others alone."""
    weights = [0.0 if k % 3 else 0.5 + k % 2 for k in range(ROWS)]
    whole, gradients = trained(tmp_path, "bfd", rule, 2, data=conversations(sample_weight=weights))
    kept = [k for k, weight in enumerate(weights) if weight]
    part = conversations(sample_weight=weights).select(kept)
    _, alone = trained(tmp_path, "padded", rule, 1, data=part)
    assert (gradients[0] - alone[0]).norm() <= 1e-5 * alone[0].norm()
    assert sum(whole.steps[0][3]) == 2, "two flat rows before"


def test_half_of_the_segments_take_half_of_the_tokens(tmp_path):
    """Dropped segments are cut out of packed rows, and the rest packed again: half as many micro-batches run."""
    ran = []

    def count(module, inputs, output):
        if torch.is_grad_enabled():
            ran.append(output.shape[:-1].numel())

    class Counting(Watched):
        def __init__(self, *args, **kwargs):
            super().__init__(*args, **kwargs)
            self.model.get_input_embeddings().register_forward_hook(count)

    trained(tmp_path, "bfd", "random_keep(share=0.5)", 4, cls=Counting, max_steps=1)
    trained(tmp_path, "bfd", "chain(top_k(share=0.5), ir_dro(r=1))", 4, cls=Counting, max_steps=1)
    total = LONGEST * ROWS // 2
    assert len(ran) <= 6, "of four micro-batches in each of the two steps at most three run"
    assert sum(ran) <= 1.2 * total


# ---- weights of tokens and messages ----


def half_weighted(**columns) -> datasets.Dataset:
    data = conversations(**columns)
    weights = [[(1.0, 0.5, 0.0)[at % 3] for at in range(len(ids))] for ids in data["input_ids"]]
    return data.add_column("token_weights", weights)


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("per", ["sample", "token"])
@pytest.mark.fast_cover(1)
def test_token_weights_weigh_the_tokens_of_a_sample(tmp_path, form, per):
    """The gradient of Σ w_i Σ m_t ℓ_t / Σ m_t over the step, taken by autograd from the model's logits."""
    data = half_weighted()
    _, gradients = trained(tmp_path, form, "ir_dro(r=0.5)", 2, data=data, per=per)
    model = tiny.model()
    losses, masses = [], []
    for row in data:
        logits = model(torch.tensor([row["input_ids"]])).logits[0, :-1]
        labels, m = torch.tensor(row["labels"][1:]), torch.tensor(row["token_weights"][1:])
        token = torch.nn.functional.cross_entropy(logits, labels, ignore_index=-100, reduction="none")
        m = m * (labels != -100)
        losses.append((m * token).sum() / m.sum())
        masses.append(m.sum())
    loss = torch.stack(losses)
    u = torch.exp(loss.detach() / 0.5) * (torch.stack(masses) if per == "token" else 1)
    (u * loss / u.sum()).sum().backward()
    expected = torch.cat([p.grad.flatten() for p in model.parameters()])
    for gradient in gradients:
        assert (gradient - expected).norm() <= 2e-5 * expected.norm()


@pytest.mark.filterwarnings("ignore:The `'keep_end'` truncation mode is deprecated:FutureWarning")
@pytest.mark.parametrize("mode", ["keep_start", "keep_end"])
def test_token_weights_are_cut_with_their_tokens(tmp_path, mode):
    data = half_weighted()
    trainer, _ = trained(tmp_path, "padded", "uniform()", data=data, max_length=12, truncation_mode=mode, max_steps=1)
    for row in trainer.train_dataset:
        assert len(row["token_weights"]) == len(row["input_ids"]) == 12
    cut = slice(None, 12) if mode == "keep_start" else slice(-12, None)
    assert sorted(trainer.train_dataset["token_weights"]) == sorted(row[cut] for row in data["token_weights"])


@pytest.mark.parametrize("form", ["padded", "padding-free"])
@pytest.mark.parametrize("missing", [1, -1], ids=["one too few", "one too many"])
def test_token_weights_of_another_length_are_refused(tmp_path, form, missing):
    """In a flat row they would move on to the next sample."""
    data = conversations()
    weights = [[1.0] * (len(ids) - missing) for ids in data["input_ids"]]
    with pytest.raises(sw.SamplewiseError, match=r"^token_weights: expected a number for each of the row's \d+ tokens"):
        trained(tmp_path, form, "uniform()", data=data.add_column("token_weights", weights), max_length=None)


@pytest.mark.parametrize("unused", [True, False])
def test_evaluation_on_rows_with_the_same_columns_is_the_plain_one(tmp_path, unused):
    data = half_weighted(**COLUMNS)
    plain = conversations()

    def evaluated(data):
        trainer = WeightedTrainer(
            tiny.model(), tiny.arguments(tmp_path, remove_unused_columns=unused), train_dataset=data,
            eval_dataset=data, data_collator=DataCollatorForSeq2Seq(tokenizer()), rule="uniform()",
        )  # fmt: skip
        return trainer.evaluate()["eval_loss"], trainer.predict(data).metrics["test_loss"]

    assert evaluated(data) == evaluated(plain)


# ---- turns ----


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.fast_cases("bfd")
def test_every_turn_a_sample(tmp_path, form):
    """Runs of predicted tokens are weighed one by one; padded and packed agree, and ids differ."""
    data = conversations()
    labels = [[-100 if at % 6 < 2 else label for at, label in enumerate(row)] for row in data["labels"]]
    data = data.remove_columns("labels").add_column("labels", labels)
    trainer, gradients = trained(tmp_path, form, "ir_dro(r=0.3)", 2, data=data, turns=True)
    reference, expected = trained(tmp_path, "padded", "ir_dro(r=0.3)", 1, data=data, turns=True)
    for (_, samples, weights, _), (_, own, w, _) in zip(trainer.steps, reference.steps, strict=True):
        assert len(samples) > 3 * ROWS
        assert samples.id.unique().numel() == len(samples)
        assert torch.equal(samples.id, own.id)
        torch.testing.assert_close(samples.loss, own.loss, rtol=1e-5, atol=0)
        torch.testing.assert_close(weights, w, rtol=1e-4, atol=0)
    for gradient in gradients:
        assert (gradient - expected[0]).norm() <= 2e-5 * expected[0].norm()


# ---- the plain trainer ----


def flat(tmp_path, rule, accumulation, **options):
    trainer = WeightedTrainer(
        tiny.model(), tiny.arguments(
            tmp_path, max_steps=2, learning_rate=0.0, gradient_accumulation_steps=accumulation,
            per_device_train_batch_size=24 // accumulation,
        ),
        train_dataset=tiny.Rows(24), rule=rule, **options,
    )  # fmt: skip
    trainer.train()
    return trainer.state.log_history


@pytest.mark.parametrize("rule", ["ir_dro(r=0.5)", "chain(band(drop_top=0.25), ir_dro(r=0.5))"])
@pytest.mark.fast_cases("chain(band(drop_top=0.25), ir_dro(r=0.5))")
def test_padding_free_batches_in_the_plain_trainer(tmp_path, rule):
    """transformers' own flattening collator: the figures of the padded step."""
    flattened = flat(tmp_path, rule, 2, data_collator=DataCollatorWithFlattening())
    padded = flat(tmp_path, rule, 1, data_collator=tiny.collate)
    for key in ("loss", "grad_norm", "samplewise/weighted_loss", "samplewise/ess", "samplewise/length_corr"):
        a, b = ([entry[key] for entry in log if key in entry] for log in (flattened, padded))
        assert a == pytest.approx(b, rel=1e-4), key


# ---- bad input ----


@pytest.mark.parametrize("bad", [-1.0, math.nan, math.inf, "much"])
def test_a_weight_that_is_none_is_named(tmp_path, bad):
    class Rows(tiny.Rows):
        def __getitem__(self, index):
            return {**super().__getitem__(index), "sample_weight": bad if index == 5 else 1.0}

    trainer = WeightedTrainer(
        tiny.model(), tiny.arguments(tmp_path), train_dataset=Rows(24), data_collator=tiny.collate,
        rule="column_weights()",
    )  # fmt: skip
    with pytest.raises(sw.SamplewiseError, match="sample_weight: expected finite numbers of 0 or more"):
        trainer.train()


def test_a_step_of_zero_weights_is_an_error(tmp_path):
    with pytest.raises(sw.SamplewiseError, match="at least one sample with a weight other than 0"):
        trained(tmp_path, "bfd", "column_weights()", data=conversations(sample_weight=[0.0] * ROWS))


@pytest.mark.parametrize(
    ("rule", "column"), [("column_weights()", "sample_weight"), ("by('excess', ir_dro(r=1.0))", "reference_loss")]
)
def test_a_column_that_is_missing_is_named(tmp_path, rule, column):
    with pytest.raises(sw.SamplewiseError, match=f"train_dataset: expected a column {column}"):
        trained(tmp_path, "padded", rule)


def test_a_column_that_is_not_used_is_said(tmp_path, caplog):
    trained(tmp_path, "padded", "ir_dro(r=1.0)", data=conversations(sample_weight=WEIGHTS), max_steps=1)
    assert "a column sample_weight, which ir_dro(r=1.0) does not use" in caplog.text


def test_a_flat_row_without_boundaries_is_refused():
    def flatten(features):
        return {key: torch.cat([f[key] for f in features])[None] for key in ("input_ids", "labels")}

    rows = [{"input_ids": torch.arange(3), "labels": torch.arange(3), "sample_id": k} for k in range(2)]
    with pytest.raises(sw.SamplewiseError, match="position_ids that restart at each sample"):
        FieldsCollator(flatten)(rows)
    batch = FieldsCollator(lambda f: {**flatten(f), "position_ids": torch.tensor([[0, 1, 2, 0, 1, 2]])})(rows)
    assert batch[SEGMENTS].tolist() == [[0, 0, 0, 1, 1, 1]]

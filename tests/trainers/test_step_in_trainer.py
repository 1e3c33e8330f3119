"""The gradient of a step in the Trainer against autograd on one batch of all its samples, however it is split."""

import math
from itertools import pairwise

import pytest
import tiny
import torch
from torch.utils.data import DataLoader
from transformers import Trainer, TrainerCallback

import samplewise as sw
from samplewise.trainers import WeightedMixin, WeightedTrainer

SPLITS = {"1x8": [8], "2x4": [4, 4], "8x1": [1] * 8, "3+5": [3, 5]}
RULES = {
    "uniform": sw.uniform(),
    "ir_dro": sw.ir_dro(r=0.3),
    "half": sw.chain(sw.top_k(0.5), sw.ir_dro(r=0.5)),
    "quarter": sw.mid_ranking(0.25, 1),
    "random": sw.random_keep(0.5),
}


class Split(Trainer):
    """A user's trainer with a loader of its own: micro-batches of the given sizes, in the order of the rows."""

    sizes: list[int]

    def get_train_dataloader(self):
        bounds = torch.tensor([0, *self.sizes]).cumsum(0).tolist()
        batches = [list(range(a, b)) for a, b in pairwise(bounds)]
        return self.accelerator.prepare(
            DataLoader(self.train_dataset, batch_sampler=batches, collate_fn=self.data_collator)
        )


class WeightedSplit(WeightedMixin, Split):
    pass


class Gradients(TrainerCallback):
    """What the optimizer is about to see at each step."""

    def __init__(self):
        self.steps = []

    def on_pre_optimizer_step(self, args, state, control, model=None, **kwargs):
        self.steps.append(torch.cat([p.grad.flatten().clone() for p in model.parameters()]))


def gradient_in_trainer(tmp_path, model, rule, sizes, per="sample", clip=0.0, dataset=None, mode=None, **options):
    """Of the first step, or with mode="one_pass" of the second, on the same rows with the same parameters."""
    seen = Gradients()
    steps = 2 if mode == "one_pass" else 1
    args = tiny.arguments(
        tmp_path, gradient_accumulation_steps=len(sizes), max_steps=steps, max_grad_norm=clip,
        per_device_train_batch_size=2, learning_rate=0.0,
    )  # fmt: skip
    dataset = dataset or tiny.Rows(8)
    trainer = WeightedSplit(
        model, args, train_dataset=dataset, data_collator=tiny.collate, rule=rule, per=per, callbacks=[seen], **options
    )
    trainer.sizes = sizes
    trainer.train()
    if mode is not None:
        passes = [entry["samplewise/mode"] for entry in trainer.state.log_history if "loss" in entry]
        assert passes[-1] == {"one_pass": 1, "two_pass": 2}[mode]
    return seen.steps[-1]


def gradient_by_hand(model, rule, per="sample", rows=range(8), n=8):
    """One batch of these of n rows; weights from plain losses; autograd."""
    dataset = tiny.Rows(n)
    batch = tiny.collate([dataset[i] for i in rows])
    model.train()
    losses, tokens = sw.sample_losses(
        model(batch["input_ids"], attention_mask=batch["attention_mask"]).logits, batch["labels"]
    )
    w = sw.weights(rule, losses.detach().double())
    mass = tokens.double() if per == "token" else torch.ones_like(w)
    model.zero_grad()
    ((w * mass).to(losses) * losses).sum().div((w * mass).sum().to(losses)).backward()
    return torch.cat([p.grad.flatten().clone() for p in model.parameters()])


ONE_PASS = {"uniform", "random"}  # from the first step on; ir_dro from the second, with its shift from the first


@pytest.mark.parametrize("per", ["sample", "token"])
@pytest.mark.parametrize("rule", RULES)
@pytest.mark.parametrize("split", SPLITS)
@pytest.mark.fast_cover(2)
def test_the_split_of_a_step_changes_nothing(tmp_path, split, rule, per):
    for dtype, tolerance in ((torch.float64, 1e-10), (torch.float32, 1e-6)):
        expected = gradient_by_hand(tiny.model(dtype=dtype), RULES[rule], per)
        mode = None if rule in ONE_PASS else "two_pass"
        got = gradient_in_trainer(tmp_path, tiny.model(dtype=dtype), RULES[rule], SPLITS[split], per, mode=mode)
        assert (got - expected).norm() <= tolerance * expected.norm()


@pytest.mark.parametrize("per", ["sample", "token"])
@pytest.mark.parametrize("rule", ["uniform", "ir_dro"])
@pytest.mark.parametrize("split", SPLITS)
@pytest.mark.fast_cover(2)
def test_one_pass_has_the_gradient_of_one_big_batch(tmp_path, split, rule, per):
    for kind, dtype, tolerance in (("opt", torch.float64, 1e-10), ("llama", torch.float32, 1e-6)):
        # Llama's norms compute in fp32 whatever the model's dtype, so fp64 is not exact there.
        expected = gradient_by_hand(tiny.model(kind, dtype=dtype), RULES[rule], per)
        model = tiny.model(kind, dtype=dtype)
        got = gradient_in_trainer(tmp_path, model, RULES[rule], SPLITS[split], per, mode="one_pass")
        assert (got - expected).norm() <= tolerance * expected.norm()


def test_left_out_is_absent(tmp_path):
    """Training on all rows under a rule that keeps four equals training on those four alone."""
    model = tiny.model(dtype=torch.float64)
    dataset = tiny.Rows(8)
    batch = tiny.collate([dataset[i] for i in range(8)])
    losses, _ = sw.sample_losses(
        model(batch["input_ids"], attention_mask=batch["attention_mask"]).logits, batch["labels"]
    )
    kept = torch.topk(losses, 4).indices.sort().values.tolist()
    expected = gradient_by_hand(tiny.model(dtype=torch.float64), sw.uniform(), rows=kept)
    got = gradient_in_trainer(tmp_path, tiny.model(dtype=torch.float64), sw.top_k(0.5), [4, 4])
    assert (got - expected).norm() <= 1e-10 * expected.norm()


@pytest.mark.parametrize("mode", ["one_pass", "two_pass"])
def test_clipping_sees_the_gradient_of_one_big_batch(tmp_path, mode):
    got = gradient_in_trainer(tmp_path, tiny.model(dtype=torch.float64), sw.ir_dro(0.3), [4, 4], clip=0.1, mode=mode)
    expected = gradient_by_hand(tiny.model(dtype=torch.float64), sw.ir_dro(0.3))
    expected = expected * 0.1 / (expected.norm() + 1e-6)
    assert (got - expected).norm() <= 1e-9 * expected.norm()


class OneBadRow(tiny.Rows):
    """Row 3 holds a token whose embedding is infinite."""

    def __init__(self, n):
        super().__init__(n)
        self.rows[3] = torch.cat([torch.tensor([2]), self.rows[3]])


def with_infinite_embedding(dtype=torch.float64):
    model = tiny.model(dtype=dtype)
    with torch.no_grad():
        model.get_input_embeddings().weight[2] = math.inf
    return model


@pytest.mark.parametrize("split", [[8], [4, 4]])
@pytest.mark.parametrize("steps", [None, "one_pass"])
@pytest.mark.parametrize("rule", [sw.ir_dro(0.5), sw.uniform()])
@pytest.mark.fast_cover(2)
def test_a_row_of_non_finite_loss_is_left_out_as_if_absent(tmp_path, caplog, rule, steps, split):
    """In one pass it is seen in the training forward, and the step runs again in two passes."""
    others = [0, 1, 2, 4, 5, 6, 7]
    seen = Gradients()
    args = tiny.arguments(
        tmp_path, gradient_accumulation_steps=len(split), max_steps=2 if steps else 1, max_grad_norm=0.0,
        per_device_train_batch_size=2, learning_rate=0.0,
    )  # fmt: skip
    trainer = WeightedSplit(
        with_infinite_embedding(), args, train_dataset=OneBadRow(8), data_collator=tiny.collate, rule=rule,
        max_nonfinite=0.2, callbacks=[seen],
    )  # fmt: skip
    trainer.sizes = split
    trainer.train()
    got = seen.steps[-1]
    expected = gradient_by_hand(tiny.model(dtype=torch.float64), rule, rows=others)
    assert (got - expected).norm() <= 1e-10 * expected.norm()
    assert "ids [3]" in caplog.text
    with pytest.raises(sw.SamplewiseError, match=r"at most 1.000%.*ids \[3\]"):
        gradient_in_trainer(tmp_path, with_infinite_embedding(), rule, [4, 4], dataset=OneBadRow(8))


class Masked(tiny.Rows):
    """Rows 1 and 4 predict nothing."""

    def __getitem__(self, index):
        row = super().__getitem__(index)
        return {**row, "labels": torch.full_like(row["labels"], -100)} if index in (1, 4) else row


def test_rows_without_a_predicted_token_are_no_samples(tmp_path):
    got = gradient_in_trainer(tmp_path, tiny.model(dtype=torch.float64), sw.ir_dro(1.0), [4, 4], dataset=Masked(8))
    expected = gradient_by_hand(tiny.model(dtype=torch.float64), sw.ir_dro(1.0), rows=[0, 2, 3, 5, 6, 7])
    assert (got - expected).norm() <= 1e-10 * expected.norm()


@pytest.mark.parametrize("budget", [{"max_steps": 5}, {"num_train_epochs": 2, "max_steps": -1}])
@pytest.mark.parametrize("rule", ["uniform()", "top_k(0.5)", "top_k(0.25)"])
@pytest.mark.fast_cover(1)
def test_steps_and_learning_rates_are_the_plain_trainers(tmp_path, rule, budget):
    def history(cls, **options):
        trainer = cls(
            tiny.model(),
            tiny.arguments(tmp_path, per_device_train_batch_size=4, gradient_accumulation_steps=4, **budget),
            train_dataset=tiny.Rows(40), data_collator=tiny.collate, **options,
        )  # fmt: skip
        trainer.train()
        return trainer.state.global_step, [e["learning_rate"] for e in trainer.state.log_history if "loss" in e]

    assert history(WeightedTrainer, rule=rule) == history(Trainer)


def test_micro_is_the_mean_of_micro_batches_each_normalized_alone(tmp_path):
    rule = sw.ir_dro(0.3)
    got = gradient_in_trainer(tmp_path, tiny.model(dtype=torch.float64), rule, [4, 4], normalize="micro")
    parts = [gradient_by_hand(tiny.model(dtype=torch.float64), rule, rows=part) for part in (range(4), range(4, 8))]
    assert (got - sum(parts) / 2).norm() <= 1e-10 * got.norm()
    exact = gradient_by_hand(tiny.model(dtype=torch.float64), rule)
    assert (got - exact).norm() > 1e-3 * exact.norm()  # another estimator


def test_micro_is_refused_for_lone_rows(tmp_path):
    with pytest.raises(sw.SamplewiseError, match=r"normalize: .*at least 2 rows"):
        WeightedTrainer(
            tiny.model(), tiny.arguments(tmp_path, per_device_train_batch_size=1), train_dataset=tiny.Rows(8),
            data_collator=tiny.collate, rule="ir_dro()", normalize="micro",
        )  # fmt: skip


def left(features):
    """As tiny.collate, padded on the left."""
    batch = tiny.collate(features)
    lengths = batch["attention_mask"].sum(1).tolist()
    return {
        key: torch.stack([row.roll(len(row) - n) for row, n in zip(value, lengths, strict=True)])
        for key, value in batch.items()
    }


@pytest.mark.parametrize("kind", ["llama", "opt", "gpt2"])
def test_left_padding_changes_nothing(tmp_path, kind):
    """Nothing is predicted from padding, and absolute positions count from a row's first token; rows 4 and 5 are of
    one length, so that their micro-batch is not padded at all."""
    rule, dataset = sw.chain(sw.top_k(0.5), sw.ir_dro(0.5)), tiny.Rows(8)
    dataset.rows[5] = dataset.rows[5][: len(dataset.rows[4])]
    dataset.rows[4] = dataset.rows[4][: len(dataset.rows[5])]
    gradients = []
    for collator in (tiny.collate, left):
        seen = Gradients()
        args = tiny.arguments(
            tmp_path,
            max_steps=1,
            max_grad_norm=0.0,
            learning_rate=0.0,
            train_sampling_strategy="sequential",
            per_device_train_batch_size=2,
            gradient_accumulation_steps=4,
        )
        WeightedTrainer(
            tiny.model(kind, dtype=torch.float64), args, train_dataset=dataset, data_collator=collator, rule=rule,
            callbacks=[seen],
        ).train()  # fmt: skip
        gradients.append(seen.steps[0])
    assert (gradients[0] - gradients[1]).norm() <= 1e-6 * gradients[0].norm()

"""`uniform()` per token is the host's own training, and everything but the training loss stays the host's."""

import datasets
import pytest
import tiny
import torch
from transformers import Trainer, TrainerCallback

import samplewise as sw
from samplewise.trainers import WeightedMixin, WeightedTrainer


def parameters(trainer):
    return torch.cat([p.detach().flatten() for p in trainer.model.parameters()])


def logged(trainer, key):
    return [entry[key] for entry in trainer.state.log_history if key in entry]


def trained(cls, tmp_path, kind="llama", model_options=None, takes_items=True, **options):
    rule = {"rule": sw.uniform(), "per": "token"} if issubclass(cls, WeightedMixin) else {}
    model = tiny.model(kind, **(model_options or {}))
    if not takes_items:
        model.accepts_loss_kwargs = False
    trainer = cls(
        model, tiny.arguments(tmp_path, learning_rate=1e-3, **options), train_dataset=tiny.Rows(22),
        data_collator=tiny.collate, **rule,
    )  # fmt: skip
    trainer.train()
    return trainer


@pytest.mark.parametrize("kind", ["llama", "opt", "gpt2"])
@pytest.mark.parametrize("accumulation", [1, 4])
@pytest.mark.parametrize("takes_items", [True, False], ids=["token mean", "mean of micro-batch means"])
@pytest.mark.fast_cover(2)
def test_uniform_per_token_is_the_host(tmp_path, kind, accumulation, takes_items):
    """22 rows in micro-batches of 4: the last micro-batch is short, and so is the last group of each epoch."""
    options = {"gradient_accumulation_steps": accumulation, "max_steps": 5, "max_grad_norm": 0.5}
    ours = trained(WeightedTrainer, tmp_path, kind, takes_items=takes_items, **options)
    host = trained(Trainer, tmp_path, kind, takes_items=takes_items, **options)
    assert (parameters(ours) - parameters(host)).abs().max() <= 2e-5
    assert ours.state.global_step == host.state.global_step
    assert logged(ours, "learning_rate") == logged(host, "learning_rate")
    assert logged(ours, "loss") == pytest.approx(logged(host, "loss"), rel=1e-5)
    assert logged(ours, "grad_norm") == pytest.approx(logged(host, "grad_norm"), rel=1e-4)


def test_scoring_draws_nothing_from_global_generators(tmp_path):
    """With dropout, equal parameters need equal dropout masks: one draw in scoring would shift them all."""
    dropout = {"model_options": {"attention_dropout": 0.3}}
    ours = trained(WeightedTrainer, tmp_path, **dropout)
    host = trained(Trainer, tmp_path, **dropout)
    assert (parameters(ours) - parameters(host)).abs().max() <= 2e-5
    still = trained(Trainer, tmp_path)
    assert (parameters(still) - parameters(host)).abs().max() > 1e-4


def test_evaluation_is_the_plain_loss(tmp_path):
    def evaluate(cls, **options):
        trainer = cls(
            tiny.model(), tiny.arguments(tmp_path), train_dataset=tiny.Rows(24), eval_dataset=tiny.Rows(10, seed=5),
            data_collator=tiny.collate, **options,
        )  # fmt: skip
        return trainer.evaluate()["eval_loss"]

    assert evaluate(WeightedTrainer, rule="ir_dro(r=0.1)") == evaluate(Trainer)


def test_a_users_own_trainer_keeps_its_metrics_callbacks_and_sampler(tmp_path):
    class Stopper(TrainerCallback):
        def on_step_end(self, args, state, control, **kwargs):
            control.should_training_stop = state.global_step == 3

    class Mine(Trainer):
        def _get_train_sampler(self, train_dataset=None):
            return torch.utils.data.SequentialSampler(self.train_dataset)

        def log(self, logs, *args, **kwargs):
            super().log({**logs, "mine": 1.0}, *args, **kwargs)

    class Weighted(WeightedMixin, Mine):
        pass

    seen = []
    trainer = Weighted(
        tiny.model(), tiny.arguments(tmp_path, max_steps=9, eval_strategy="steps", eval_steps=2),
        train_dataset=tiny.Rows(24), eval_dataset=tiny.Rows(6), data_collator=tiny.collate, rule=recording(seen),
        callbacks=[Stopper()], compute_metrics=lambda p: {"logits": float(p.predictions.shape[-1])},
    )  # fmt: skip
    trainer.train()
    assert trainer.state.global_step == 3
    assert seen[-3:] == [list(range(8)), list(range(8, 16)), list(range(16, 24))]
    assert logged(trainer, "eval_logits") == [tiny.VOCABULARY]
    assert len(logged(trainer, "mine")) >= 3


def recording(seen):
    """Uniform weights, and a note of the ids of every step (before them, of the trials on made-up samples)."""
    from samplewise.rules.base import make_rule

    def update(samples, weights, state):
        seen.append(samples.id.tolist())
        return state

    return make_rule("recording()", lambda weights, samples, state: weights, update=update)


class Stream(torch.utils.data.IterableDataset):
    def __iter__(self):
        rows = tiny.Rows(24)
        return iter([rows[i] for i in range(24)])


def hub_dataset(**columns):
    rows = tiny.Rows(24)
    ids = [row.tolist() for row in rows.rows]
    return datasets.Dataset.from_dict({"input_ids": ids, "labels": ids, "note": ["x"] * 24, **columns})


def tensors(features):
    return tiny.collate([{k: torch.tensor(v) for k, v in f.items() if k != "note"} for f in features])


@pytest.mark.parametrize(
    ("dataset", "collator", "ids"),
    [
        (tiny.Rows(24), tiny.collate, range(24)),
        (Stream(), tiny.collate, range(24)),
        (hub_dataset(), tensors, range(24)),
        (hub_dataset(sample_id=[7 * 2**55 + i for i in range(24)]), tensors, [7 * 2**55 + i for i in range(24)]),
        (hub_dataset().to_iterable_dataset(), tensors, range(24)),
    ],
    ids=["map-style", "stream", "datasets", "own ids", "datasets stream"],
)
def test_ids_reach_the_rule(tmp_path, dataset, collator, ids):
    seen = []
    trainer = WeightedTrainer(
        tiny.model(), tiny.arguments(tmp_path, max_steps=3), train_dataset=dataset, data_collator=collator,
        rule=recording(seen),
    )  # fmt: skip
    trainer.train()
    assert sorted(i for step in seen[-3:] for i in step) == list(ids)


def test_what_is_logged(tmp_path):
    trainer = WeightedTrainer(
        tiny.model(), tiny.arguments(tmp_path), train_dataset=tiny.Rows(24), data_collator=tiny.collate,
        rule="chain(band(drop_top=0.25), ir_dro(r=0.5))",
    )  # fmt: skip
    trainer.train()
    entry = trainer.state.log_history[0]
    assert entry["samplewise/kept"] == 0.75
    assert entry["samplewise/mode"] == 2
    assert 0 < entry["samplewise/ess"] <= 0.75
    assert entry["samplewise/max_weight"] > 4 / 3
    assert entry["samplewise/kl"] > 0
    assert -1 <= entry["samplewise/length_corr"] <= 1
    assert entry["samplewise/weighted_loss"] != entry["loss"]
    assert {"samplewise/seconds_score", "samplewise/seconds_rule", "samplewise/seconds_train"} <= set(entry)


@pytest.mark.parametrize("kind", ["llama", "opt", "gpt2"])
def test_ten_lines_run_on_each_architecture(tmp_path, kind):
    trainer = WeightedTrainer(
        tiny.model(kind), tiny.arguments(tmp_path, max_steps=8), train_dataset=tiny.Rows(16),
        data_collator=tiny.collate,
        rule=sw.chain(sw.band(drop_top=0.125), sw.ir_dro(r=1.0)),
    )  # fmt: skip
    trainer.train()
    losses = logged(trainer, "loss")
    assert losses[-1] < losses[0]

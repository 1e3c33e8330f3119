"""Stored losses: the choice before any forward, its cost, its memory through a checkpoint, and what staleness does."""

import json
import logging
import math
from itertools import pairwise

import pytest
import tiny
import torch
from test_step_in_trainer import Gradients
from test_trl import conversations, trained
from watching import OnStep

import samplewise as sw
from samplewise.engine.staleness import Staleness
from samplewise.trainers import WeightedTrainer

RULE = "chain(band(drop_top=0.25), ir_dro(r=0.5))"
CHECK = 4  # rows that the check of the head's two paths runs before the first step


def losses(model, rows):
    with torch.no_grad():
        return [float(model(row[None], labels=row[None]).loss) for row in rows]


class WithColumn(tiny.Rows):
    """Every row carries the loss it has under some model."""

    def __init__(self, n, known):
        super().__init__(n)
        self.known = known

    def __getitem__(self, index):
        return {**super().__getitem__(index), "stored_loss": self.known[index]}


class Watched(WeightedTrainer):
    """Counts the rows of every forward, with gradient and without, and keeps the plans."""

    def train(self, *args, **kwargs):
        self.ran, self.plans = [], []
        hook = self.model.get_input_embeddings().register_forward_hook(
            lambda module, inputs, output: self.ran.append((torch.is_grad_enabled(), len(output)))
        )
        try:
            return super().train(*args, **kwargs)
        finally:
            hook.remove()

    def __init__(self, *args, **kwargs):
        super().__init__(*args, **kwargs)
        self.engine.added.append(OnStep(lambda result: self.plans.append((result.mode, result, result.samples))))

    def rows(self, gradient):
        return sum(count for with_gradient, count in self.ran if with_gradient == gradient)


def run(folder, dataset, rule=RULE, cls=Watched, checkpoint=None, callbacks=(), **options):
    ours = {key: options.pop(key) for key in ("loss_from", "min_stored_corr") if key in options}
    trainer = cls(
        tiny.model(), tiny.arguments(folder, **{"learning_rate": 0.0, "max_grad_norm": 0.0, **options}),
        train_dataset=dataset, data_collator=tiny.collate, rule=rule, callbacks=list(callbacks),
        **{"loss_from": "stored", **ours},
    )  # fmt: skip
    trainer.train(resume_from_checkpoint=checkpoint)
    return trainer


def test_the_rule_sees_the_column(tmp_path):
    """Losses of another model decide; the gradient is the weighted mean of this model's own."""
    rows = tiny.Rows(24).rows
    known = losses(tiny.model(seed=5), rows)
    seen = Gradients()
    trainer = run(tmp_path, WithColumn(24, known), max_steps=3, callbacks=[seen])
    for (name, plan, samples), gradient in zip(trainer.plans, seen.steps, strict=True):
        assert name == "stored"
        given = torch.tensor([known[i] for i in samples.id.tolist()], dtype=torch.float64)
        torch.testing.assert_close(plan.weights, sw.weights(sw.parse_rule(RULE), given), rtol=1e-6, atol=0)
        model = tiny.model()
        own = [rows[i] for i in samples.id.tolist()]
        loss = torch.stack([model(row[None], labels=row[None]).loss for row in own])
        (plan.weights * loss).mean().backward()
        expected = torch.cat([p.grad.flatten() for p in model.parameters()])
        assert (gradient - expected).norm() <= 2e-5 * expected.norm()
        trained_on = plan.weights > 0
        torch.testing.assert_close(samples.loss[trained_on], loss.detach().double()[trained_on], rtol=1e-5, atol=0)
        assert samples.loss[~trained_on].isnan().all()


def test_a_step_costs_its_kept_share(tmp_path):
    """Half of the rows are trained on; only the probe, about one in twenty, is scored."""
    known = losses(tiny.model(), tiny.Rows(200).rows)
    options = {"max_steps": 10, "per_device_train_batch_size": 10}
    stored = run(tmp_path, WithColumn(200, known), "top_k(share=0.5)", **options)
    fresh = run(tmp_path, WithColumn(200, known), "top_k(share=0.5)", loss_from="fresh", **options)
    assert stored.rows(True) == fresh.rows(True) == 100
    assert fresh.rows(False) == 200 + CHECK
    assert CHECK < stored.rows(False) <= 25
    for (_, a, _), (_, b, _) in zip(stored.plans, fresh.plans, strict=True):
        torch.testing.assert_close(a.weights, b.weights)


def test_the_last_visit_is_remembered(tmp_path):
    """First epoch: all is new and scored. Second: planned from what the first found; nothing has moved in between."""
    trainer = run(tmp_path, tiny.Rows(24), max_steps=6)
    first, second = trainer.plans[:3], trainer.plans[3:]
    assert {name for name, *_ in trainer.plans} == {"stored"}
    known = dict(zip(range(24), losses(tiny.model(), tiny.Rows(24).rows), strict=True))
    for _, plan, samples in [*first, *second]:
        given = torch.tensor([known[i] for i in samples.id.tolist()], dtype=torch.float64)
        torch.testing.assert_close(plan.weights, sw.weights(sw.parse_rule(RULE), given), rtol=1e-4, atol=0)
    probed = sum(int(Staleness.probe(samples.id, step).sum()) for step, (*_, samples) in enumerate(second, 4))
    assert trainer.rows(False) == 24 + CHECK + probed


def test_the_losses_of_one_epoch_weigh_the_next(tmp_path):
    """Parameters move: the third epoch is weighed by the losses that were found while training in the second."""
    trainer, rule = run(tmp_path, tiny.Rows(24), "ir_dro(r=1.0)", max_steps=9, learning_rate=1e-2), sw.ir_dro(r=1.0)
    found: dict[int, float] = {}
    for step, (_, plan, samples) in enumerate(trainer.plans, 1):
        ids = samples.id.tolist()
        if step > 6:
            given = torch.tensor([found[i] for i in ids], dtype=torch.float64)
            torch.testing.assert_close(plan.weights, sw.weights(rule, given), rtol=1e-4, atol=0)
            assert (given - samples.loss).abs().max() > 0.01, "they have moved since"
        found |= dict(zip(ids, samples.loss.tolist(), strict=True))


def test_resumed_as_if_never_stopped(tmp_path):
    whole = run(tmp_path / "a", tiny.Rows(24), max_steps=8, save_strategy="steps", save_steps=5, learning_rate=1e-3)
    again = run(
        tmp_path / "b", tiny.Rows(24), max_steps=8, save_strategy="no", learning_rate=1e-3,
        checkpoint=str(tmp_path / "a" / "checkpoint-5"),
    )  # fmt: skip
    for p, q in zip(whole.model.parameters(), again.model.parameters(), strict=True):
        assert torch.equal(p, q)
    assert again.rule_state == whole.rule_state
    facts = json.loads((tmp_path / "a" / "checkpoint-5" / "samplewise" / "state.json").read_text())
    assert any(name.startswith("samplewise_memory.") for name in facts["tensors"])


def test_stale_losses_are_scored_afresh_and_said(tmp_path, caplog):
    """A column that ranks the samples upside down: once enough of the probe has shown it, all are scored."""
    rows = tiny.Rows(240).rows
    upside_down = [-loss for loss in losses(tiny.model(), rows)]
    with caplog.at_level(logging.WARNING, "samplewise"):
        trainer = run(
            tmp_path, WithColumn(240, upside_down), max_steps=12, num_train_epochs=5, per_device_train_batch_size=60
        )
    names = [name for name, *_ in trainer.plans]
    assert names[0] == "stored"
    assert names[-1] == "two_pass"
    assert "rank correlation of -1.00: samples are scored afresh" in caplog.text
    logged = [
        entry["samplewise/stored_corr"] for entry in trainer.state.log_history if "samplewise/stored_corr" in entry
    ]
    assert logged[0] == pytest.approx(-1, abs=0.01)
    own = torch.tensor(losses(tiny.model(), [rows[i] for i in trainer.plans[-1][2].id.tolist()]), dtype=torch.float64)
    torch.testing.assert_close(trainer.plans[-1][1].weights, sw.weights(sw.parse_rule(RULE), own), rtol=1e-4, atol=0)


def test_packed_rows(tmp_path):
    """Segments of a packed row have their own stored losses, NaN where one was never seen."""
    known = [math.nan if k % 5 == 0 else 1.0 + k for k in range(16)]
    trainer, _ = trained(
        tmp_path, "bfd", "top_k(share=0.5)", 4, data=conversations(stored_loss=known), loss_from="stored", max_steps=1
    )
    _, samples, weights, _ = trainer.steps[0]
    assert samples.id[weights > 0].tolist() == [k for k in range(16) if k % 5][-8:]


@pytest.mark.parametrize(
    ("rule", "options"),
    [("uniform()", {}), ("ir_dro()", {"normalize": "micro"}),
     ("ir_dro()", {"token_rule": "rho1()", "reference_model": tiny.model()})],
)  # fmt: skip
def test_refused_by_name(tmp_path, rule, options):
    with pytest.raises(sw.SamplewiseError, match=r"^loss_from"):
        WeightedTrainer(
            tiny.model(), tiny.arguments(tmp_path), train_dataset=tiny.Rows(24), data_collator=tiny.collate, rule=rule,
            loss_from="stored", **options,
        )  # fmt: skip


@pytest.mark.parametrize("least", ["0.7", 70, True])
def test_a_limit_that_is_no_correlation_is_refused(tmp_path, least):
    with pytest.raises(sw.SamplewiseError, match=r"^min_stored_corr: expected a rank correlation"):
        run(tmp_path, tiny.Rows(24), min_stored_corr=least)


# ---- what a run says of itself ----


def test_a_run_warns_once_of_what_it_finds(tmp_path, caplog):
    with caplog.at_level(logging.WARNING, "samplewise"):
        run(tmp_path, tiny.Rows(16), "ir_dro(r=0.0005)", loss_from="fresh", max_steps=60, cls=WeightedTrainer,
            per_device_train_batch_size=8)  # fmt: skip
    assert caplog.text.count("the effective sample size is below 10% of the samples for 50 steps") == 1
    assert "Raise r" in caplog.text


def test_the_weights_of_groups_are_logged(tmp_path):
    """Group 1 is the harder: its weight grows from step to step, and the logged weights sum to 1."""

    class Grouped(tiny.Rows):
        def __getitem__(self, index):
            row = self.rows[index] if index % 2 else torch.full_like(self.rows[index], 5)
            return {"input_ids": row, "labels": row, "group": index % 2}

    trainer = run(
        tmp_path, Grouped(24), "group_dro(step_size=0.5)", loss_from="fresh", max_steps=6, learning_rate=1e-2,
        cls=WeightedTrainer,
    )  # fmt: skip
    path = [(e["samplewise/group_0"], e["samplewise/group_1"]) for e in trainer.state.log_history if "loss" in e]
    assert all(a + b == pytest.approx(1) for a, b in path)
    assert all(after[1] > before[1] for before, after in pairwise(path))


# ---- the starting model's losses ----


def flow_weights(stored, tau):
    factor = torch.exp(-torch.tensor(stored, dtype=torch.float64) / tau)
    return factor / factor.mean()


@pytest.mark.parametrize("loss_from", ["fresh", "stored"])
def test_flow_weighs_by_the_column_with_the_median_of_all_the_data(tmp_path, loss_from):
    known = [1.0 + (7 * i % 24) / 5 for i in range(24)]
    trainer = run(tmp_path, WithColumn(24, known), rule="flow()", loss_from=loss_from, max_steps=3)
    assert trainer.plans[0][0] == ("one_pass" if loss_from == "fresh" else "stored"), "the median is known at once"
    for _, plan, samples in trainer.plans:
        want = flow_weights([known[i] for i in samples.id.tolist()], sorted(known)[11] / 2 + sorted(known)[12] / 2)
        torch.testing.assert_close(plan.weights, want, rtol=1e-6, atol=0)


def test_flow_of_equal_stored_losses_is_named_before_the_first_step(tmp_path):
    with pytest.raises(sw.SamplewiseError, match=r"^tau: expected stored losses that differ.*24 of 2\.5"):
        run(tmp_path, WithColumn(24, [2.5] * 24), rule="flow()", loss_from="fresh")


def test_flow_remembers_the_first_epoch_through_a_checkpoint(tmp_path):
    """16 rows, two steps an epoch: in the second epoch losses differ, weights are of the first."""
    data, options = (
        tiny.Rows(16),
        {"rule": "flow(tau=1.0)", "loss_from": "fresh", "learning_rate": 0.05, "max_steps": 4},
    )
    whole = run(tmp_path / "whole", data, save_strategy="steps", save_steps=3, **options)
    first = {}
    for _, _, samples in whole.plans[:2]:
        first |= dict(zip(samples.id.tolist(), samples.loss.tolist(), strict=True))
    for _, plan, samples in whole.plans[2:]:
        want = flow_weights([first[i] for i in samples.id.tolist()], 1.0)
        torch.testing.assert_close(plan.weights, want, rtol=1e-5, atol=0)
        now = flow_weights(samples.loss.tolist(), 1.0)
        assert (plan.weights - now).abs().max() > 1e-2, "the model has learned since"
    again = run(tmp_path / "again", data, checkpoint=str(tmp_path / "whole" / "checkpoint-3"), **options)
    assert torch.equal(again.plans[-1][1].weights, whole.plans[-1][1].weights)


def test_a_column_of_stored_losses_that_is_no_number_is_named(tmp_path):
    with pytest.raises(sw.SamplewiseError, match=r"stored_loss: expected losses in nats per token.*'high'"):
        run(tmp_path, WithColumn(24, ["high"] * 24), rule="flow()", loss_from="fresh")

"""Rules divided by a count, random choices and windows in the Trainer: split, resumed, and with nothing left."""

from dataclasses import replace

import pytest
import tiny
import torch
from test_resume import history, parameters, trainer
from test_step_in_trainer import SPLITS, Gradients, WeightedSplit, gradient_in_trainer

import samplewise as sw
from samplewise.core.samples import as_samples
from samplewise.rules.base import make_rule


def second_step_by_hand(model, rule, per):
    """The gradient of the second step on the same rows, from one batch, the plan's coefficients and autograd."""
    dataset = tiny.Rows(8)
    batch = tiny.collate([dataset[i] for i in range(8)])
    model.train()
    losses, tokens = sw.sample_losses(
        model(batch["input_ids"], attention_mask=batch["attention_mask"]).logits, batch["labels"]
    )
    samples = as_samples(losses.double(), tokens)
    state = sw.plan_step(rule, samples, rule.init()).state
    plan = sw.plan_step(rule, samples, state, base_weight=tokens if per == "token" else None)
    model.zero_grad()
    (plan.coefficients.to(losses) * losses).sum().backward()
    return torch.cat([p.grad.flatten().clone() for p in model.parameters()]), plan


@pytest.mark.parametrize("per", ["sample", "token"])
@pytest.mark.parametrize("split", SPLITS)
@pytest.mark.fast_cover(1)
def test_one_pass_divides_by_the_count_where_the_rule_says_so(tmp_path, split, per):
    rule = sw.infobatch(share=0.5, anneal=0.0, seed=2)
    expected, plan = second_step_by_hand(tiny.model("opt", dtype=torch.float64), rule, per)
    assert 0 < plan.figures["kept"] < 1
    assert float(plan.coefficients.sum()) != pytest.approx(1, abs=0.05), "the other divisor would show"
    model = tiny.model("opt", dtype=torch.float64)
    got = gradient_in_trainer(tmp_path, model, rule, SPLITS[split], per, mode="one_pass")
    assert (got - expected).norm() <= 1e-10 * expected.norm()


@pytest.mark.parametrize("split", ["8x1", "3+5"])
def test_a_step_from_which_everything_was_dropped_has_no_gradient(tmp_path, split):
    def nothing(samples, state):
        return torch.zeros_like(samples.loss)

    rule = replace(make_rule("nothing()", lambda w, samples, state: 0 * w, factor=nothing), norm="count")
    got = gradient_in_trainer(tmp_path, tiny.model(), rule, SPLITS[split])
    assert got.abs().max() == 0


class Grouped(tiny.Rows):
    def __getitem__(self, index):
        return {**super().__getitem__(index), "group": index % 3}


@pytest.mark.parametrize("split", ["8x1", "3+5"])
@pytest.mark.parametrize("text", ["group_dro(step_size=0.5)", "chain(random_keep(0.5), doremi(step_size=2.0))"])
def test_groups_are_learned_from_the_losses_of_the_training_pass(tmp_path, text, split):
    """No sample is scored, the gradient is that of the first weights, and the state is that of the true losses."""
    rule, dataset = sw.parse_rule(text), Grouped(8)
    model = tiny.model("opt", dtype=torch.float64)
    batch = tiny.collate([dataset[i] for i in range(8)])
    losses, tokens = sw.sample_losses(
        model(batch["input_ids"], attention_mask=batch["attention_mask"]).logits, batch["labels"]
    )
    samples = as_samples(losses.double(), tokens, group=[i % 3 for i in range(8)])
    plan = sw.plan_step(rule, samples, rule.init())
    (plan.coefficients.to(losses) * losses).sum().backward()
    expected = torch.cat([p.grad.flatten() for p in model.parameters()])
    trainer = one_step(tmp_path, tiny.model("opt", dtype=torch.float64), rule, SPLITS[split], dataset)
    assert (trainer.seen - expected).norm() <= 1e-10 * expected.norm()
    assert trainer.state.log_history[0]["samplewise/mode"] == 1
    assert trainer.rule_state == pytest.approx(plan.state, rel=1e-9)


def one_step(tmp_path, model, rule, sizes, dataset):
    """A trainer after one step of no size, with the gradient that the optimizer saw."""
    seen = Gradients()
    args = tiny.arguments(
        tmp_path, gradient_accumulation_steps=len(sizes), max_steps=1, max_grad_norm=0.0,
        per_device_train_batch_size=2, learning_rate=0.0,
    )  # fmt: skip
    trainer = WeightedSplit(
        model, args, train_dataset=dataset, data_collator=tiny.collate, rule=rule, callbacks=[seen]
    )  # fmt: skip
    trainer.sizes = sizes
    trainer.train()
    trainer.seen = seen.steps[0]
    return trainer


@pytest.mark.parametrize(
    "rule", ["infobatch(share=piecewise(0.6, 5, 0.0))", "sample_proportional(share=0.5)", "top_k(share=0.5, window=3)"]
)
@pytest.mark.fast_cases("infobatch(share=piecewise(0.6, 5, 0.0))")
def test_resumed_in_the_middle_is_uninterrupted(tmp_path, rule):
    whole = trainer(tmp_path / "whole", rule)
    whole.train()
    resumed = trainer(tmp_path / "again", rule)
    resumed.train(resume_from_checkpoint=str(tmp_path / "whole" / "checkpoint-4"))
    assert all(torch.equal(a, b) for a, b in zip(parameters(whole), parameters(resumed), strict=True))
    assert history(resumed) == history(whole)
    torch.testing.assert_close(resumed.rule_state, whole.rule_state, rtol=0, atol=0)
    assert len({entry["samplewise/kept"] for entry in history(whole)}) > 1 or "proportional" in rule


@pytest.mark.parametrize("rule", ["infobatch(share=piecewise(0.6))", "sample_proportional(share=0.5)"])
@pytest.mark.fast_cases("infobatch(share=piecewise(0.6))")
def test_a_random_choice_is_the_same_in_1x8_and_2x4(tmp_path, rule):
    runs = []
    for size in (8, 4):
        options = {"per_device_train_batch_size": size, "gradient_accumulation_steps": 8 // size}
        run = trainer(tmp_path / str(size), rule, **options)
        run.model.config.attention_dropout = 0.0
        for module in run.model.modules():
            if hasattr(module, "attention_dropout"):
                module.attention_dropout = 0.0
        run.train()
        runs.append(run)
    for a, b in zip(*map(history, runs), strict=True):
        assert a["samplewise/kept"] == b["samplewise/kept"]
        assert a["samplewise/ess"] == pytest.approx(b["samplewise/ess"], rel=1e-9)
    for a, b in zip(*map(parameters, runs), strict=True):  # AdamW lifts roundings; another choice would be at 1e-2
        torch.testing.assert_close(a, b, rtol=0, atol=2e-4)

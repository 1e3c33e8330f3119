"""One pass: the one way back, the pool, models whose head is special, and the step it replaces."""

import pytest
import tiny
import torch
import transformers
from test_step_in_trainer import SPLITS, Gradients, WeightedSplit, gradient_by_hand
from torch.utils.data import Dataset
from transformers import Trainer
from watching import OnStep

import samplewise as sw
from samplewise.trainers import WeightedTrainer


def run(tmp_path, model, rule, sizes, dataset, steps, **options):
    seen = Gradients()
    arguments = {"learning_rate": 0.0, "max_grad_norm": 0.0, **options.pop("arguments", {})}
    args = tiny.arguments(
        tmp_path, gradient_accumulation_steps=len(sizes), max_steps=steps, per_device_train_batch_size=2, **arguments
    )
    trainer = WeightedSplit(
        model, args, train_dataset=dataset, data_collator=tiny.collate, rule=rule, callbacks=[seen], **options
    )
    trainer.sizes = sizes
    trainer.train()
    return trainer, seen.steps


@pytest.mark.parametrize("split", SPLITS)
def test_five_clipped_adamw_steps_do_not_depend_on_the_split(tmp_path, split):
    def parameters(sizes):
        arguments = {"learning_rate": 1e-3, "max_grad_norm": 0.5}
        trainer, _ = run(tmp_path, tiny.model(), "ir_dro(r=0.3)", sizes, tiny.Rows(8), 5, arguments=arguments)
        return torch.cat([p.detach().flatten() for p in trainer.model.parameters()])

    assert (parameters(SPLITS[split]) - parameters([8])).abs().max() <= 2e-5


class Jumping(Dataset):
    """Three steps of three micro-batches of two rows: easy; the middle one hard; easy. Labels are what the model finds
    likeliest or unlikeliest, so the losses jump by more than 20 nats."""

    def __init__(self, model):
        generator = torch.Generator().manual_seed(2)
        ids = torch.randint(3, tiny.VOCABULARY, (18, 6), generator=generator)
        with torch.no_grad():
            logits = model(ids).logits
        hard = torch.zeros(18, dtype=torch.bool)
        hard[8:10] = True
        likely, unlikely = logits.argmax(-1), logits.argmin(-1)
        predicted = torch.where(hard[:, None], unlikely, likely)
        self.rows = [
            {"input_ids": row, "labels": torch.cat([row[:1], label[:-1]])}
            for row, label in zip(ids, predicted, strict=True)
        ]

    def __len__(self):
        return len(self.rows)

    def __getitem__(self, index):
        return self.rows[index]


def certain_model(dtype):
    model = tiny.model(dtype=dtype)
    with torch.no_grad():
        model.lm_head.weight.mul_(200)
    return model


def by_hand(model, rows, r):
    batch = tiny.collate(rows)
    losses, _ = sw.sample_losses(model(batch["input_ids"]).logits, batch["labels"])
    model.zero_grad()
    (r * torch.logsumexp(losses / r, 0)).backward()  # its gradient is that of the weighted loss
    return losses.detach(), torch.cat([p.grad.flatten().clone() for p in model.parameters()])


def test_a_jump_of_twenty_nats_up_and_down_takes_the_one_way_back(tmp_path, caplog):
    model = certain_model(torch.float64)
    dataset = Jumping(model)
    _, steps = run(tmp_path, model, sw.ir_dro(r=0.1), [2] * 9, dataset, 1)  # all at once, to see that it is defined
    assert torch.isfinite(steps[0]).all()

    class Thirds(WeightedSplit):
        pass

    seen = Gradients()
    args = tiny.arguments(
        tmp_path, gradient_accumulation_steps=3, max_steps=3, max_grad_norm=0.0, learning_rate=0.0,
        per_device_train_batch_size=2,
    )  # fmt: skip
    trainer = Thirds(
        certain_model(torch.float64), args, train_dataset=dataset, data_collator=tiny.collate, rule=sw.ir_dro(r=0.1),
        callbacks=[seen],
    )  # fmt: skip
    trainer.sizes = [2] * 9
    trainer.train()
    assert caplog.text.count("runs again in two passes") == 2
    levels = []
    for number, got in enumerate(seen.steps):
        losses, expected = by_hand(certain_model(torch.float64), dataset.rows[6 * number : 6 * number + 6], 0.1)
        levels.append(float(losses.max()))
        assert (got - expected).norm() <= 1e-6 * expected.norm()
    assert levels[1] - levels[0] > 20
    assert levels[1] - levels[2] > 20


@pytest.mark.parametrize("pool", [1, 2, 4])
@pytest.mark.parametrize("budget", [{"max_steps": 4}, {"num_train_epochs": 2, "max_steps": -1}])
@pytest.mark.fast_cover(1)
def test_a_pool_takes_the_steps_that_were_planned(tmp_path, pool, budget):
    seen = []
    trainer = WeightedTrainer(
        tiny.model(), tiny.arguments(tmp_path, **budget), train_dataset=tiny.Rows(64), data_collator=tiny.collate,
        rule=sw.chain(noting(seen), sw.top_k(1 / pool)), pool=pool,
    )  # fmt: skip
    trainer.train()
    per_epoch = 64 // (8 * pool)
    assert trainer.state.global_step == (2 * per_epoch if "num_train_epochs" in budget else 4)
    steps = [ids for ids in seen if len(ids) == 8 * pool][-trainer.state.global_step :]
    assert len(steps) == trainer.state.global_step
    if "num_train_epochs" in budget:
        assert sorted(i for ids in steps[:per_epoch] for i in ids) == list(range(64))


def noting(seen):
    from samplewise.rules.base import make_rule

    def update(samples, weights, state):
        seen.append(samples.id.tolist())
        return state

    return make_rule("noting()", lambda weights, samples, state: weights, update=update)


def test_a_pool_that_the_rule_does_not_empty_is_refused(tmp_path):
    with pytest.raises(sw.SamplewiseError, match=r"^pool: .*at most 1 in 4"):
        WeightedTrainer(
            tiny.model(), tiny.arguments(tmp_path), train_dataset=tiny.Rows(64), data_collator=tiny.collate,
            rule="top_k(0.5)", pool=4,
        ).train()  # fmt: skip


class Louder(transformers.LlamaForCausalLM):
    """Does more after its body than its head."""

    def forward(self, *args, **kwargs):
        outputs = super().forward(*args, **kwargs)
        outputs.logits = outputs.logits * 3
        return outputs


def test_a_model_that_fails_the_check_trains_from_logits_only_if_allowed(tmp_path):
    def train(**options):
        torch.manual_seed(0)
        model = Louder(tiny.model().config).double()
        return model, run(tmp_path, model, sw.ir_dro(0.3), [4, 4], tiny.Rows(8), 2, **options)

    with pytest.raises(sw.SamplewiseError, match=r'Louder.*logits="allow"'):
        train()
    model, (_, steps) = train(logits="allow")
    expected = gradient_by_hand(model, sw.ir_dro(0.3))
    for got in steps:  # two passes, then one
        assert (got - expected).norm() <= 1e-10 * expected.norm()


def mixture():
    torch.manual_seed(0)
    config = transformers.MixtralConfig(
        vocab_size=tiny.VOCABULARY, hidden_size=16, intermediate_size=24, num_hidden_layers=2, num_attention_heads=2,
        num_key_value_heads=2, num_local_experts=4, output_router_logits=True, router_aux_loss_coef=0.5,
        bos_token_id=1, eos_token_id=2, pad_token_id=0,
    )  # fmt: skip
    return transformers.MixtralForCausalLM(config)


def test_a_routers_term_keeps_its_coefficient_in_two_passes(tmp_path):
    rule, dataset = sw.ir_dro(0.3), tiny.Rows(8)
    trainer, steps = run(tmp_path, mixture(), rule, [8], dataset, 2)
    assert [entry["samplewise/mode"] for entry in trainer.state.log_history if "loss" in entry] == [2, 2]
    model, batch = mixture(), tiny.collate([dataset[i] for i in range(8)])
    outputs = model(batch["input_ids"], attention_mask=batch["attention_mask"])
    losses, _ = sw.sample_losses(outputs.logits, batch["labels"])
    w = sw.weights(rule, losses.detach())
    ((w / w.sum() * losses).sum() + 0.5 * outputs.aux_loss).backward()
    expected = torch.cat([p.grad.flatten() for p in model.parameters()])
    for got in steps:
        assert (got - expected).norm() <= 1e-5 * expected.norm()


def test_weighted_steps_leave_the_model_as_it_was(tmp_path):
    model = tiny.model()
    forward = model.forward
    trainer, _ = run(tmp_path, model, "ir_dro(r=1.0)", [4, 4], tiny.Rows(8), 2)
    assert "forward" not in vars(model) or model.forward is forward
    assert isinstance(trainer, Trainer)


def test_shares_of_the_run_become_steps(tmp_path):
    """A schedule over half of the run is the one over as many steps, in weights and in what is logged."""

    def logs(rule):
        trainer = WeightedTrainer(
            tiny.model(), tiny.arguments(tmp_path, max_steps=6), train_dataset=tiny.Rows(48),
            data_collator=tiny.collate, rule=rule,
        )  # fmt: skip
        trainer.train()
        return [entry["samplewise/ess"] for entry in trainer.state.log_history if "loss" in entry]

    assert logs("ir_dro(r=linear(1.0, 0.01, 0.5))") == logs("ir_dro(r=linear(1.0, 0.01, 3))")
    assert logs("ir_dro(r=linear(1.0, 0.01, 0.5))") != logs("ir_dro(r=linear(1.0, 0.01, 6))")


@pytest.mark.parametrize("rule", ["infobatch(share=0.5)", "chain(infobatch(share=0.5), column_weights())"])
def test_a_count_divides_in_one_pass_as_in_two(tmp_path, rule):
    """InfoBatch: the survivors' gradient over the number of samples; beside a sum the chain divides by the sum."""

    class Heavy(tiny.Rows):
        def __getitem__(self, index):
            return {**super().__getitem__(index), "sample_weight": 3.0}

    seen, rows = Gradients(), Heavy(24)
    trainer = WeightedTrainer(
        tiny.model(), tiny.arguments(tmp_path, max_steps=3, learning_rate=0.0, max_grad_norm=0.0),
        train_dataset=rows, data_collator=weighted_collate, rule=rule, callbacks=[seen],
    )  # fmt: skip
    results = []
    trainer.engine.added.append(OnStep(results.append))
    trainer.train()
    for result, gradient in zip(results, seen.steps, strict=True):
        model = tiny.model()
        loss = torch.stack(
            [model(r[None], labels=r[None]).loss for r in (rows.rows[i] for i in result.samples.id.tolist())]
        )
        (result.weights * loss).mean().backward()
        expected = torch.cat([p.grad.flatten() for p in model.parameters()])
        assert (gradient - expected).norm() <= 2e-5 * expected.norm()
    assert results[-1].mode == "one_pass"
    assert any(result.figures["kept"] < 1 for result in results)
    means = [float(result.weights.mean()) for result in results]
    assert all(mean == pytest.approx(1) for mean in means) == ("column_weights" in rule)


def weighted_collate(features):
    return tiny.collate([{k: v for k, v in f.items() if k != "sample_weight"} for f in features])

"""`WeightedTrainer` with Triton's and Liger's kernels, under Triton's interpreter: the gradients of the reference."""

import os

os.environ["TRITON_INTERPRET"] = "1"  # before triton is imported, here or in the package

import pytest
import tiny
import torch
from transformers import TrainerCallback

from samplewise.engine import options
from samplewise.losses.kernels import api, residual_triton
from samplewise.trainers import WeightedTrainer

RULES = ("ir_dro(r=0.5)", "chain(band(drop_top=0.25), ir_dro(r=1.0))")


class Gradients(TrainerCallback):
    """What the optimizer sees, by step: of the head, and of all else."""

    def __init__(self):
        self.steps = []

    def on_pre_optimizer_step(self, args, state, control, model=None, **kwargs):
        head = model.lm_head.weight.grad.clone()
        rest = [p.grad.flatten() for name, p in model.named_parameters() if name != "lm_head.weight"]
        self.steps.append((head, torch.cat(rest)))


def trained(tmp_path, backend, rule):
    """Gradients and losses of three steps: the first scores and trains, `ir_dro` alone then trains in one pass."""
    seen = Gradients()
    args = tiny.arguments(tmp_path, max_steps=3, max_grad_norm=0.0)
    trainer = WeightedTrainer(
        tiny.model(), args, train_dataset=tiny.Rows(24), data_collator=tiny.collate, rule=rule, backend=backend,
        callbacks=[seen],
    )  # fmt: skip
    trainer.train()
    logs = [log for log in trainer.state.log_history if "loss" in log]
    return seen.steps, [[log["loss"], log["samplewise/ess"], log["samplewise/mode"]] for log in logs]


def counting(monkeypatch, module, name):
    """How often a function of a module is called."""
    calls, inner = [], getattr(module, name)
    monkeypatch.setattr(module, name, lambda *args, **more: calls.append(1) or inner(*args, **more))
    return calls


@pytest.mark.slow
@pytest.mark.parametrize("rule", RULES)
@pytest.mark.parametrize("backend", ["triton", "liger"])
def test_gradients_are_those_of_the_reference(tmp_path, monkeypatch, backend, rule):
    monkeypatch.setitem(options.CHOICES, "backend", (backend, "reference"))  # which no run is meant to take
    want, figures = trained(tmp_path / "reference", "reference", rule)
    ran = counting(
        monkeypatch, *{"triton": (residual_triton, "residual_"), "liger": (api.liger_backend, "losses")}[backend]
    )
    got, found = trained(tmp_path / backend, backend, rule)
    assert len(ran) >= 3 * 2, "it was these kernels that ran"
    assert found == [pytest.approx(each, rel=1e-5) for each in figures]
    assert len(got) == len(want) == 3
    for step, (ours, theirs) in enumerate(zip(got, want, strict=True)):
        for a, b in zip(ours, theirs, strict=True):
            off = float((a.double() - b.double()).norm() / b.double().norm())
            assert off <= 5e-6, (step, off)

"""An error that leaves a step says once in which step, mode and rank it was, and what was being done."""

import pytest
import tiny
import torch
import typer

import samplewise as sw
from samplewise.cli.shell import reported
from samplewise.losses.kernels.chunked import Work
from samplewise.trainers import WeightedStep, WeightedTrainer


def failing(at: int, where: str) -> sw.Rule:
    """A rule that is out of bounds from its `at`-th update on, in the form that is asked for."""

    def body(weights, samples, state):
        return weights * (-1.0 if where == "apply" and state["step"] >= at else 1.0)

    return sw.make_rule(
        "failing()", body, init=lambda: {"step": 0},
        update=lambda samples, weights, state: {"step": int(state["step"]) + 1},
    )  # fmt: skip


def test_in_a_trainer(tmp_path):
    trainer = WeightedTrainer(
        tiny.model(), tiny.arguments(tmp_path), train_dataset=tiny.Rows(16), data_collator=tiny.collate,
        rule=failing(1, "apply"),
    )  # fmt: skip
    with pytest.raises(sw.SamplewiseError, match="finite weights of at least 0") as raised:
        trainer.train()
    assert raised.value.__notes__ == ["In optimizer step 2, mode two_pass, rank 0, while planning."]


def batch(ids: torch.Tensor) -> dict:
    return {"input_ids": ids, "labels": ids, "sample_id": torch.arange(len(ids))}


def test_in_a_loop_whatever_the_error():
    """An error of torch's, while training: a label outside the vocabulary in the second step."""
    step = WeightedStep(tiny.model(), "ir_dro(r=1.0)")
    good = torch.randint(3, tiny.VOCABULARY, (4, 6), generator=torch.Generator().manual_seed(0))
    for micro in step.plan([batch(good)]):
        step.backward(micro)
    step.finish()
    bad = batch(good)
    bad["input_ids"] = good + tiny.VOCABULARY
    micro = next(iter(step.plan([bad])))
    with pytest.raises(IndexError) as raised:
        step.backward(micro)
    assert raised.value.__notes__ == ["In optimizer step 2, mode one_pass, rank 0, while training."]


def test_a_step_that_was_not_run_to_its_end():
    step = WeightedStep(tiny.model(), "uniform()")
    good = torch.randint(3, tiny.VOCABULARY, (4, 6), generator=torch.Generator().manual_seed(0))
    next(iter(step.plan([batch(good)])))
    with pytest.raises(sw.SamplewiseError, match=r"^finish: expected every planned micro-batch") as raised:
        step.finish()
    assert raised.value.__notes__ == ["In optimizer step 1, mode one_pass, rank 0, while finishing."]


@pytest.mark.parametrize("rule", ["ir_dro(r=1.0)", "band(drop_top=0.25)"], ids=["one pass", "two passes"])
def test_memory_that_runs_out_within_a_step_leaves_nothing_behind(rule, monkeypatch):
    """The same step in smaller micro-batches has the gradient of one that never ran out."""
    ids = torch.randint(3, tiny.VOCABULARY, (8, 6), generator=torch.Generator().manual_seed(0))
    whole, parts = [batch(ids)], [{k: v[i : i + 2] for k, v in batch(ids).items()} for i in (0, 2, 4, 6)]
    want = gradients(WeightedStep(tiny.model(), rule), whole)
    step, score = WeightedStep(tiny.model(), rule), Work.score

    def full(self, where, gradient):
        if gradient:
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB.")
        return score(self, where, gradient)

    monkeypatch.setattr(Work, "score", full)
    with pytest.raises(torch.OutOfMemoryError) as raised:
        gradients(step, whole)
    assert raised.value.__notes__[0].startswith("In optimizer step 1, mode ")
    assert raised.value.__notes__[1].startswith("Take fewer rows a micro-batch and more micro-batches")
    monkeypatch.setattr(Work, "score", score)
    step.model.zero_grad()
    for got, right in zip(gradients(step, parts), want, strict=True):
        torch.testing.assert_close(got, right, rtol=1e-5, atol=1e-7)
    assert step.engine.steps == 1


def gradients(step: WeightedStep, batches: list[dict]) -> list[torch.Tensor]:
    for micro in step.plan(batches):
        step.backward(micro)
    step.finish()
    return [parameter.grad.clone() for parameter in step.model.parameters()]


@pytest.mark.parametrize(
    "error",
    [
        torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB."),
        RuntimeError("MPS backend out of memory (MPS allocated: 9 GB)"),
        RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried to allocate 9 bytes."),
    ],
)
def test_the_command_line_says_what_takes_less_memory(error, capsys):
    with pytest.raises(typer.Exit), reported(debug=False):
        raise error
    said = capsys.readouterr().err
    assert said.startswith("samplewise: memory: expected enough of it for this work, got ")
    assert said.endswith("fewer rows a micro-batch and more micro-batches: weights and gradient stay the same.\n")


def test_a_factor_that_is_no_number_names_its_samples_before_anything_moves():
    """Not looked at in every micro-batch: with the step's figures, once."""

    def factor(samples, state):
        return torch.where(samples.id == 5, torch.nan, 1.0).to(samples.loss)

    rule = sw.make_rule("odd()", lambda weights, samples, state: weights, factor=factor)
    step = WeightedStep(tiny.model(), rule)
    ids = torch.randint(3, tiny.VOCABULARY, (4, 6), generator=torch.Generator().manual_seed(0))
    micros = step.plan([batch(ids), {**batch(ids), "sample_id": torch.arange(4, 8)}])
    step.backward(next(micros))
    with pytest.raises(sw.SamplewiseError, match=r"^factors: expected numbers, got nan for ids \[5\] from odd\(\)"):
        step.backward(next(micros))

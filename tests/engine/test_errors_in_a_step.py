"""An error that leaves a step says once in which step, mode and rank it was, and what was being done."""

import pytest
import tiny
import torch

import samplewise as sw
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

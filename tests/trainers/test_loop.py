"""A loop of one's own on `WeightedStep` takes the steps that `WeightedTrainer` takes."""

import pytest
import tiny
import torch
from accelerate import Accelerator
from transformers import TrainerCallback

import samplewise as sw
from samplewise.core.checkpoint import mark_complete
from samplewise.trainers import WeightedTrainer
from samplewise.trainers.loop import WeightedStep

STEPS = 3
RULES = ["ir_dro(r=0.3)", "chain(top_k(0.5), ir_dro(r=0.5))", "random_keep(0.5)"]


class Gradients(TrainerCallback):
    def __init__(self):
        self.seen: list[torch.Tensor] = []

    def on_pre_optimizer_step(self, args, state, control, model=None, **kwargs):
        self.seen.append(flat(model))


def flat(model) -> torch.Tensor:
    return torch.cat([p.grad.flatten().clone() for p in model.parameters()])


def batches(step: int, sizes=(4, 4), **changes) -> list[dict]:
    """The rows that the Trainer takes in order."""
    data, first = tiny.Rows(8 * STEPS), step * sum(sizes)
    out = []
    for size in sizes:
        rows = range(first, first + size)
        out.append({**tiny.collate([data[i] for i in rows]), "sample_id": torch.tensor(rows), **changes})
        first += size
    return out


class InOrder(WeightedTrainer):
    def _get_train_sampler(self, *args):
        return torch.utils.data.SequentialSampler(self.train_dataset)


def trained_by_the_host(tmp_path, rule, per):
    gradients = Gradients()
    args = tiny.arguments(tmp_path, max_steps=STEPS, max_grad_norm=0.0)
    model = tiny.model("opt", dtype=torch.float64)
    InOrder(
        model, args, train_dataset=tiny.Rows(8 * STEPS), data_collator=tiny.collate, rule=rule, per=per,
        callbacks=[gradients],
    ).train()  # fmt: skip
    return gradients.seen


def trained_in_a_loop(rule, per, accelerator=None, sizes=(4, 4)):
    seen, model = [], tiny.model("opt", dtype=torch.float64)
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-2, weight_decay=0.0)
    scheduler = torch.optim.lr_scheduler.LinearLR(optimizer, 1.0, 0.0, STEPS)
    if accelerator is not None:
        model, optimizer = accelerator.prepare(model, optimizer)
    model.train()
    step = WeightedStep(model, rule, per=per, accelerator=accelerator)
    for number in range(STEPS):
        for micro in step.plan(batches(number, sizes)):
            step.backward(micro)
        step.finish()
        seen.append(flat(model))
        optimizer.step()
        scheduler.step()
        optimizer.zero_grad()
    return seen


@pytest.mark.parametrize("per", ["sample", "token"])
@pytest.mark.parametrize("rule", RULES)
@pytest.mark.fast_cover(1)
def test_the_same_gradients_as_the_trainer(tmp_path, rule, per):
    expected = trained_by_the_host(tmp_path, rule, per)
    for got in (trained_in_a_loop(rule, per), trained_in_a_loop(rule, per, Accelerator(cpu=True))):
        for a, b in zip(got, expected, strict=True):
            assert (a - b).norm() <= 1e-12 * b.norm()


@pytest.mark.parametrize("rule", RULES)
def test_micro_batches_change_nothing(rule):
    for a, b in zip(trained_in_a_loop(rule, "sample", sizes=(1, 5, 2)), trained_in_a_loop(rule, "sample"), strict=True):
        assert (a - b).norm() <= 1e-10 * b.norm()


def test_a_bad_row_sends_the_step_the_one_way_back(caplog):
    model = tiny.model("opt", tie_word_embeddings=False)
    with torch.no_grad():
        model.get_input_embeddings().weight[2] = float("nan")
    step = WeightedStep(model, "ir_dro(r=0.3)", max_nonfinite=0.2)
    for number in range(2):
        given = batches(number)
        if number == 1:
            given[0]["input_ids"][2, 0] = 2
        for micro in step.plan(given):
            step.backward(micro)
        assert step.finish()["passes"] == 2, "the first for want of a shift, the second for the bad row"
        assert flat(model).isfinite().all()
        model.zero_grad()
    assert "step 2 runs again in two passes" in caplog.text
    assert "left out samples with a non-finite loss: ids [10]" in caplog.text


def test_left_padding_is_understood_from_the_mask():
    def gradient(side):
        given = batches(0)
        if side == "left":
            for batch in given:
                lengths = batch["attention_mask"].sum(1)
                for key in ("input_ids", "attention_mask", "labels"):
                    batch[key] = torch.stack(
                        [row.roll(len(row) - int(n)) for row, n in zip(batch[key], lengths, strict=True)]
                    )
        model = tiny.model("llama", dtype=torch.float64)
        step = WeightedStep(model, "ir_dro(r=0.3)")
        for micro in step.plan(given):
            step.backward(micro)
        step.finish()
        return flat(model)

    assert (gradient("left") - gradient("right")).norm() <= 1e-6 * gradient("right").norm()


def test_state_goes_with_accelerates_checkpoints_and_into_its_own(tmp_path):
    accelerator = Accelerator(cpu=True)

    def begin():
        return WeightedStep(accelerator.prepare(tiny.model()), "warmup(1, ir_dro(r=0.3))", accelerator=accelerator)

    step = begin()
    accelerator.register_for_checkpointing(step)
    for number in range(2):
        for micro in step.plan(batches(number)):
            step.backward(micro)
        step.finish()
        step.model.zero_grad()
    accelerator.save_state(tmp_path / "theirs")
    step.save(tmp_path / "ours")
    mark_complete(tmp_path / "ours")
    expected, steps = dict(step.engine.state), step.engine.steps
    step.engine.begin()
    assert (step.engine.state, step.engine.steps) != (expected, steps)
    accelerator.load_state(tmp_path / "theirs")
    assert (step.engine.state, step.engine.steps) == (expected, steps)
    other = begin()
    other.load(tmp_path / "ours")
    assert (other.engine.state, other.engine.steps) == (expected, steps)
    assert {path.suffix for path in (tmp_path / "ours").rglob("*.*")} == {".json"}


def test_what_goes_wrong_is_said(tmp_path, caplog):
    model = tiny.model()
    with pytest.raises(sw.SamplewiseError, match="gradient_accumulation_steps: expected 1"):
        WeightedStep(model, "uniform()", accelerator=Accelerator(cpu=True, gradient_accumulation_steps=2))
    step = WeightedStep(model, "uniform()")
    with pytest.raises(sw.SamplewiseError, match="expected micro-batches with 'sample_id'"):
        next(step.plan([{k: v for k, v in batches(0)[0].items() if k != "sample_id"}]))
    with pytest.raises(sw.SamplewiseError, match="every planned micro-batch"):
        step.finish()
    micro = step.plan(batches(0))
    step.backward(next(micro))
    with pytest.raises(sw.SamplewiseError, match="every planned micro-batch"):
        step.finish()
    with pytest.raises(sw.SamplewiseError, match="folder: expected a checkpoint"):
        step.load(tmp_path)
    step.load_state_dict({"rule": "top_k(0.5)", "steps": 3, "state": {"step": 3}})
    assert "the checkpoint's rule is top_k(0.5)" in caplog.text
    step.detach()
    assert "forward" not in vars(model)

"""Devices that are not here: no micro-batch asks for a number of one, nor makes fp64 on one that has none."""

from dataclasses import replace

import pytest
import tiny
import torch
from fake_device import FakeDevice
from scalar_reads import WideResults

from samplewise.core.micro_batch import MicroBatch
from samplewise.engine.reading import read_step
from samplewise.evidence.doctor.stand_ins import batch_on_device, on_device, waits
from samplewise.losses.request import attach_objective
from samplewise.losses.without_logits import WithoutLogits
from samplewise.trainers import WeightedStep

ROWS, LENGTH, BYTES = 4, 20, 7 * tiny.VOCABULARY * 4


def micro_batch(fake: FakeDevice, packed: bool) -> MicroBatch:
    """Fields on the host, inputs on the device."""
    shape = (1, ROWS * LENGTH) if packed else (ROWS, LENGTH)
    ids = torch.randint(3, tiny.VOCABULARY, shape)
    batch = {"input_ids": ids, "labels": ids.clone(), "sample_id": torch.arange(ROWS)}
    if packed:
        segments = torch.arange(ROWS).repeat_interleave(LENGTH)[None]
        batch |= {"samplewise_segments": segments, "position_ids": torch.arange(LENGTH).repeat(ROWS)[None]}
    (micro,) = read_step([batch], torch.device("cpu"), own_loss=False)
    return replace(micro, inputs={key: fake.empty(value) for key, value in micro.inputs.items()})


def tilt(loss, tokens, index):
    return torch.exp(loss / 3)


@pytest.mark.parametrize("select", [None, lambda loss, reference, sample: (loss > 1).to(loss)], ids=["all", "selected"])
@pytest.mark.parametrize("packed", [False, True])
@pytest.mark.parametrize("without", [False, True], ids=["fp64", "no fp64"])
@pytest.mark.fast_cover(2)
def test_forward_kernel_and_backward_ask_for_no_number(without, packed, select, monkeypatch):
    """And make fp64 only where there is any."""
    monkeypatch.setattr("samplewise.core.host.WITHOUT_FP64", frozenset({"cpu"} if without else ()))
    model = tiny.model("llama", attn_implementation="eager")
    attach_objective(model)
    with FakeDevice() as fake:
        micro = micro_batch(fake, packed)
        result = WithoutLogits(chunk_bytes=BYTES).objective(fake.move(model), micro, tilt, select=select)
        result.value.backward()
    assert model.lm_head.weight.grad.shape == model.lm_head.weight.shape
    assert all(parameter.grad is not None for parameter in model.parameters())
    assert bool(fake.wide) != without, fake.wide


def test_the_fake_device_refuses_numbers():
    with FakeDevice() as fake:
        x = fake.empty(torch.empty(3))
        looks = [lambda: x.sum().item(), lambda: x[x > 0], lambda: bool(x.any()), x.nonzero, x.numpy]
        for look in looks:
            with pytest.raises(Exception, match=r"local_scalar|index|nonzero|numpy"):
                look()


@pytest.mark.parametrize("rule", ["ir_dro(r=1.0)", "band(drop_top=0.25)"])
def test_a_step_makes_no_fp64_on_a_device_without_it(rule, monkeypatch):
    monkeypatch.setattr("samplewise.core.host.WITHOUT_FP64", frozenset({"cpu"}))
    step = WeightedStep(on_device(tiny.model("llama", attn_implementation="eager")), rule)
    ids = torch.randint(3, tiny.VOCABULARY, (ROWS, LENGTH))
    for number in range(2):
        name = torch.arange(ROWS)
        batch = {"input_ids": ids, "labels": ids, "attention_mask": torch.ones_like(ids), "sample_id": name}
        with waits(), WideResults() as wide:
            for micro in step.plan([batch_on_device(batch)] * 2):
                step.backward(micro)
            figures = step.finish()
        assert figures["samples"] == 2 * ROWS
        assert not wide.found, number
        step.model.zero_grad()

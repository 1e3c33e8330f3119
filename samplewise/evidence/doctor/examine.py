"""The whole examination, check by check, each as soon as it is done."""

from __future__ import annotations

import gc
import traceback
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from torch import nn

from samplewise.core.exhausted import lacks_memory
from samplewise.corpus.device import measured
from samplewise.evidence.doctor import kernels, memory, paths, speed, stand_ins, waits
from samplewise.evidence.doctor.checks import Check
from samplewise.evidence.doctor.documents import even_rows
from samplewise.evidence.doctor.in_dtypes import agreement_in_dtypes, vocabulary_of
from samplewise.evidence.doctor.machine import check_dtypes, check_versions, multiplies_in
from samplewise.evidence.doctor.shapes import build
from samplewise.losses.head import find_head
from samplewise.losses.own_terms import text_config
from samplewise.trainers import WeightedStep


@dataclass(frozen=True)
class Size:
    """rows × length tokens of a step whose memory and time are measured; tokens to score, of texts up to `longest`.

    budget: ids of a batch, where the device does not say how much memory it has.
    """

    rows: int
    length: int
    tokens: int
    longest: int
    budget: int


SMALL, LARGE = Size(8, 128, 4096, 128, 1024), Size(8, 1024, 2**18, 2048, 2**15)


def examine(model: nn.Module, device: torch.device, size: Size | None = None) -> Iterator[Check]:
    """Every check of a model that lies on the device in fp32, which it leaves in bf16 where the device has that.

    size: of the steps that are measured; by the device where not given. Its weights are rounded to bf16 first, so that
    fp32 and bf16 compute with the same ones. What runs out of memory is a check that was not made.
    """
    size = size or (SMALL if device.type == "cpu" else LARGE)
    yield check_versions(device)
    yield check_dtypes(device)
    yield from paths.check_paths(model)
    if not _has_head(model):
        return
    has_bf16 = multiplies_in(torch.bfloat16, device)
    dtypes = [torch.float32, *([torch.bfloat16] if has_bf16 else [])]
    with _as_it_is(model):
        yield from guarded("kernels", lambda: kernels.check_kernels(device, dtypes))
        yield from guarded("agreement", lambda: agreement_in_dtypes(model, device, has_bf16))
        _measured_in(model, device)
        yield from guarded("waits", lambda: _waits(model, device))
        yield from guarded("memory above the body", lambda: [_memory(model, device, size)])
        yield from guarded("step time", lambda: [_step_time(model, device, size)], judged=False)
        yield from guarded("scoring", lambda: [_scoring(model, device, size)], judged=False)


def _measured_in(model: nn.Module, device: torch.device) -> None:
    """What models are trained in there: an accelerator's stays in bf16, a CPU's is fp32."""
    for parameter in model.parameters():
        parameter.data = parameter.data.float() if device.type == "cpu" else parameter.data
    model.requires_grad_(True)
    model.zero_grad(set_to_none=True)


def guarded(name: str, make: Callable[[], Iterable[Check]], judged: bool = True) -> Iterator[Check]:
    """The checks; where the device runs out of memory, the rest of them as one that was not made, with a way out."""
    try:
        yield from make()
    except Exception as error:  # a kernel that does not compile, an operation that a device lacks: that is the finding
        text = " ".join(f"{type(error).__name__}: {error}".split())[:300]
        if lacks_memory(error):
            text = f"{text.split('. ')[0]}; examine a smaller one, such as --shape smollm-135m"
            yield Check(name, "not checked", text, judged=judged)
            gc.collect()
            torch.cuda.empty_cache()
            return
        yield Check(name, "fail", text, {"traceback": traceback.format_exc()}, judged=judged)


def _has_head(model: nn.Module) -> bool:
    try:
        find_head(model)
    except ValueError:
        return False
    return True


@contextmanager
def _as_it_is(model: nn.Module) -> Iterator[None]:
    """No dropout, no router's term, fp32 products in fp32."""
    before = torch.get_float32_matmul_precision()
    torch.set_float32_matmul_precision("highest")
    model.eval()
    config = text_config(model)
    if getattr(config, "output_router_logits", False):
        config.output_router_logits = False
    try:
        yield
    finally:
        torch.set_float32_matmul_precision(before)


def _waits(model: nn.Module, device: torch.device) -> Iterable[Check]:
    if device.type == "cuda":
        return waits.check_waits(model, waits.cuda_waits, "")
    how = "; of tensors that stand for a device's, in a tiny model"
    small = build("tiny", torch.device("cpu"), vocab_size=64, attn_implementation="eager")
    return waits.check_waits(stand_ins.on_device(small), stand_ins.waits, how)


def _memory(model: nn.Module, device: torch.device, size: Size) -> Check:
    batch = even_rows(vocabulary_of(model), size.rows, size.length, device)
    step = WeightedStep(model, speed.RULES["one pass"])
    try:
        return memory.check_memory(
            model, batch, lambda: speed.one_step(model, step, speed.numbered(batch, 1)), device
        )  # fmt: skip
    finally:
        step.detach()


def _step_time(model: nn.Module, device: torch.device, size: Size) -> Check:
    return speed.check_step_time(model, even_rows(vocabulary_of(model), size.rows, size.length, device), device)


def _scoring(model: nn.Module, device: torch.device, size: Size) -> Check:
    budget = measured(model, size.longest).tokens if device.type == "cuda" else size.budget
    return speed.check_scoring(model, size.tokens, size.longest, budget, device)

"""The agreement in fp32, under bf16 autocast and with bf16 weights, of one model in one place.

Its weights are rounded to bf16 first, so that all three compute with the same ones.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import nullcontext, suppress
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import nn

from samplewise.evidence.doctor import agreement
from samplewise.evidence.doctor.checks import Check
from samplewise.evidence.doctor.documents import random_documents
from samplewise.losses.body import decoder_of, unwrapped
from samplewise.losses.head import find_head

LONGEST = 64
"""Tokens of the longest document whose gradients are compared."""
SPARE = 2**30
"""Bytes for activations, logits and what the allocator cannot use."""


def agreement_in_dtypes(model: nn.Module, device: torch.device, has_bf16: bool) -> Iterator[Check]:
    """The checks of `agreement.compare`; leaves the model in bf16 where the device has that.

    Selections by rank are compared in fp32 alone: rounded losses may select another sample.
    """
    round_weights(model)
    documents = random_documents(vocabulary_of(model), agreement.COUNT, LONGEST, device)
    frozen = narrow(model, free_bytes(device))
    if frozen:
        text = f"of the head and the last layer: those of all {frozen:,} parameters more would not fit twice"
        yield Check("compared gradients", "info", text, {"frozen": frozen})
    right = agreement.exact(model, documents, agreement.HARDEST)
    yield from agreement.compare(model, documents, agreement.HARDEST, right, "fp32")
    right = agreement.exact(model, documents, agreement.TILT)
    compared = partial(agreement.compare, model, documents, agreement.TILT, right)
    yield from compared("fp32")
    if not has_bf16:
        text = f"{device.type} does not multiply in bf16 here: train in fp32"
        yield Check("agreement in bf16", "not checked", text, judged=False)
        return
    yield from compared("bf16 autocast", partial(torch.autocast, device.type, torch.bfloat16))
    for parameter in model.parameters():
        parameter.data = parameter.data.bfloat16()
    yield from compared("bf16 weights", nullcontext)


@torch.no_grad()
def round_weights(model: nn.Module) -> None:
    """The nearest weights that bf16 holds, in the dtype that they have."""
    for parameter in model.parameters():
        parameter.copy_(parameter.bfloat16())


def narrow(model: nn.Module, room: int) -> int:
    """Freeze all but the head, what follows the layers, and the last layer, where all gradients would not fit twice.

    Returns how many parameters are frozen. A wrong gradient of the hidden states is wrong in the last layer too.
    """
    numbers = sum(parameter.numel() for parameter in model.parameters() if parameter.requires_grad)
    if 2 * 4 * numbers + SPARE <= room:
        return 0
    lists = [each for each in decoder_of(unwrapped(model)).modules() if isinstance(each, nn.ModuleList)]
    layers = max(lists, key=len, default=nn.ModuleList())
    kept = {id(parameter) for parameter in model.parameters()} - {id(each) for each in layers.parameters()}
    embeddings: Any = unwrapped(model).get_input_embeddings()  # pyright: ignore[reportCallIssue]
    kept -= {id(embeddings.weight)}
    kept |= {id(find_head(model).weight), *(id(each) for each in (layers[-1].parameters() if len(layers) else ()))}
    frozen = 0
    for parameter in model.parameters():
        if id(parameter) not in kept:
            frozen += parameter.numel()
            parameter.requires_grad_(False)
    return frozen


def free_bytes(device: torch.device) -> int:
    """Memory of the device that nobody has taken."""
    if device.type == "cuda":
        return torch.cuda.mem_get_info(device)[0]
    if device.type == "mps":
        return torch.mps.recommended_max_memory() - torch.mps.current_allocated_memory()
    with suppress(OSError, StopIteration):  # Linux: free pages and those that hold files, which give way
        lines = Path("/proc/meminfo").read_text(encoding="ascii").splitlines()
        return 1024 * int(next(line for line in lines if line.startswith("MemAvailable")).split()[1])
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")


def vocabulary_of(model: Any) -> int:
    """How many tokens the head predicts."""
    return model.get_output_embeddings().weight.shape[0]

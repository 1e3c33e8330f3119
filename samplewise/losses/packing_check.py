"""Does a model keep the segments of a packed row apart? Asked of the model itself, before the first packed step."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from samplewise.core.errors import SamplewiseError
from samplewise.core.micro_batch import MicroBatch
from samplewise.losses.evaluation import evaluating
from samplewise.losses.own_terms import reads_whole_rows
from samplewise.losses.segments import DERIVED, POSITION, boundaries

CHECKED_TOKENS = 32
"""Tokens of each segment that is looked at: enough to see the one before, next to nothing to compute."""
TOLERANCE = {torch.float16: 2e-2, torch.bfloat16: 2e-2}
FP32_TOLERANCE = 1e-4
REMEDY = "Train on padded rows (packing=False, padding_free=False), or with an attention that reads position_ids"


def check_packing(model: nn.Module, micro: MicroBatch, token_losses: Callable[[nn.Module, MicroBatch], Tensor]) -> None:
    """Compare the token losses of two segments in one row with those of each alone, as the run computes them.

    micro: a packed micro-batch; two pieces of it are looked at, in eval mode and without a trace.
    token_losses: (model, micro-batch) -> [1, T] nats, under the run's own autocast; a collective where it is sharded,
        so that every rank makes the same three calls.
    Errors: SamplewiseError naming the model and its attention where they differ by more than 1e-4 (16 bits: 2e-2).
    """
    inner = getattr(model, "module", model)
    if reads_whole_rows(inner):
        raise _refusal(inner, "an adapter (aLoRA) that is invoked once a row")
    ids = micro.inputs["input_ids"].flatten()
    ids = ids.repeat(4 // len(ids) + 1)[: 2 * CHECKED_TOKENS]
    pieces = ids.tensor_split([len(ids) // 2])
    with evaluating(model):
        together = token_losses(model, _packed(micro, list(pieces)))
        alone = torch.cat([token_losses(model, _packed(micro, [piece])) for piece in pieces], dim=1)
    worst = float((together - alone).abs().max())
    device, dtypes = ids.device.type, {p.dtype for p in inner.parameters() if p.is_floating_point()}
    if torch.is_autocast_enabled(device):
        dtypes.add(torch.get_autocast_dtype(device))
    limit = max(TOLERANCE.get(dtype, FP32_TOLERANCE) for dtype in dtypes)
    if worst > limit:  # False for NaN: a bad row is the step's business
        raise _refusal(inner, f"a token loss that differs by {worst:.2g} (at most {limit}) beside another segment")


def _packed(micro: MicroBatch, pieces: list[Tensor]) -> MicroBatch:
    """These segments in one row, with the keys that the collator gives the model."""
    ids = torch.cat(pieces)[None]
    position = torch.cat([torch.arange(len(piece), device=ids.device) for piece in pieces])[None]
    owner = torch.cat([torch.full_like(piece, number) for number, piece in enumerate(pieces)])[None].long()
    labels = ids.long().masked_fill(position == 0, -100)
    names = frozenset(name for name in DERIVED if name in micro.inputs)
    derived: dict[str, Any] = boundaries(position, names)
    inputs = {"input_ids": ids, POSITION: position, **derived}
    return MicroBatch(inputs, labels=labels, id=torch.arange(len(pieces)), segments=owner)


def _refusal(model: Any, got: str) -> SamplewiseError:
    attention = getattr(getattr(model, "config", None), "_attn_implementation", None)
    name = type(model.get_base_model() if hasattr(model, "get_base_model") else model).__name__
    return SamplewiseError(
        "model", expected="a model that keeps the segments of a packed row apart",
        got=f"{got}, for {name} with attn_implementation={attention!r}", remedy=f"{REMEDY}, if the model has one.",
    )  # fmt: skip

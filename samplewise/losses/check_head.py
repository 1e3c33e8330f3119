"""Before the first step: do losses without logits agree with the model's own logits, and its own terms?"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import nn

from samplewise.core.errors import SamplewiseError
from samplewise.losses.body import unwrapped, with_own_terms
from samplewise.losses.evaluation import evaluating
from samplewise.losses.head import REMEDY, find_head
from samplewise.losses.kernels import Backend, sample_losses
from samplewise.losses.look import few_tokens, losses_from_logits

# Of a head in 16 bits both paths round logits of some tens to 1/8 or so; a wrong scale or cap is far above it still.
TOLERANCE = {torch.float16: 2e-3, torch.bfloat16: 2e-2}


def check_head(model: nn.Module, batch: Mapping[str, Any], remedy: str = REMEDY, backend: Backend = "auto") -> None:
    """Compare both paths on at most 64 tokens of `batch`; SamplewiseError where sample losses differ by more than 1e-4.

    batch: input_ids [B, T], attention_mask [B, T] if rows are padded, position_ids if documents are packed: the first
        tokens of the first ones are taken, none across a restart. Labels play no part, every token is scored.
    backend: of the kernels that are looked at.
    Eval mode, no gradient, no autocast, no global randomness; 16-bit heads are held to their rounding instead.
    The terms that the model adds to its loss are compared too. Quick enough to call before the first step: it guards
    models whose head or loss this module does not know.
    """
    found = find_head(model, remedy)
    inputs, labels = few_tokens(batch)
    with evaluating(model), torch.autocast(found.weight.device.type, enabled=False):
        body = found.body(**inputs)
        head = {"bias": found.bias, "softcap": found.softcap, "scale": found.scale, "shard": found.shard}
        head["backend"] = backend
        ours, counts = sample_losses(body.last_hidden_state, found.weight, labels, **head)
        outputs, asked = with_own_terms(model, inputs, labels)
        logits = outputs.logits.to(torch.promote_types(outputs.logits.dtype, torch.float32))
        theirs = losses_from_logits(logits, labels)
        terms = outputs.loss if asked else outputs.loss - (theirs * counts).sum() / counts.sum()
    same = ~ours.isfinite() & ~theirs.isfinite()  # a bad row is the step's business
    worst = float(((ours - theirs).abs() / theirs.abs().clamp(min=1)).masked_fill(same, 0.0).max())
    limit = TOLERANCE.get(found.weight.dtype, 1e-4)
    if not worst <= limit:
        raise SamplewiseError(
            "model", expected=f"losses without logits within {limit} of those from logits",
            got=f"{worst:.2g} for {type(unwrapped(model)).__name__}: it does more than its head, scale and cap",
            remedy=remedy,
        )  # fmt: skip
    _check_terms(model, float(body.loss), float(terms), limit * max(1.0, float(theirs.abs().max())))


def _check_terms(model: nn.Module, ours: float, theirs: float, limit: float) -> None:
    """A term that the model adds to its loss and that is not known here would be left out of training."""
    if abs(ours - theirs) > limit:  # False for NaN: a bad row is the step's business
        raise SamplewiseError(
            "model", expected=f"an additional loss term of {ours:.4g}",
            got=f"{theirs:.4g} for {type(unwrapped(model)).__name__}",
            remedy="Disable this term in the model's config: weighting would leave it out.",
        )  # fmt: skip

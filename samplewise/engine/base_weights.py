"""What a sample counts before a rule weighs it: 1 each, or its tokens as the loop that asks averages over them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal

import torch
from torch import Tensor

from samplewise.core.distributed import gather_fields
from samplewise.core.micro_batch import MicroBatch
from samplewise.engine.plan import Per, no_token_in_step
from samplewise.losses.token_losses import token_counts, token_mass


@dataclass(frozen=True)
class TokenMean:
    """How a loop averages over tokens, so that per="token" has its very loss and gradient under `uniform()`.

    over: "step": the mean over all tokens of all ranks; "rank": the mean of the ranks' means; "micro_batch": the mean
        of the micro-batches' means.
    divisor: what it divides by where that is not the number of predicted tokens (a model whose labels do not shift for
        it); None where it is.
    """

    over: Literal["step", "rank", "micro_batch"] = "step"
    divisor: float | None = None


def counts_of(micro: MicroBatch) -> Tensor:
    """[n] predicted tokens of a micro-batch's samples; 1 each without token labels."""
    if micro.labels is None:
        return torch.ones(len(micro), dtype=torch.int64)
    return token_counts(micro.labels, micro.token_weights, micro.segments)


def with_base_weights(batches: Sequence[MicroBatch], per: Per, mean: TokenMean) -> list[MicroBatch]:
    """The micro-batches with `base_weight` [n] fp64: 1 each, or per token what they count in the loop's own loss."""
    counts = [_token_mass(micro).double().cpu() for micro in batches]
    if per == "sample":
        weights = [torch.ones_like(count) for count in counts]
    elif mean.over == "micro_batch":
        weights = [count / count.sum().clamp(min=1) for count in counts]
    elif mean.over == "rank":
        total = torch.stack([count.sum() for count in counts]).sum().clamp(min=1)
        weights = [count / total for count in counts]
    else:
        weights = counts
    return [replace(micro, base_weight=own) for micro, own in zip(batches, weights, strict=True)]


def _token_mass(micro: MicroBatch) -> Tensor:
    return (
        token_mass(micro.targets, micro.token_weights, micro.segments) if micro.labels is not None else counts_of(micro)
    )


def host_scale(batches: Sequence[MicroBatch], mean: TokenMean, device: torch.device) -> float:
    """What a loop's own mean over tokens is of ours: predicted tokens ÷ its divisor, over the ranks that share it."""
    if mean.divisor is None:
        return 1.0
    if mean.divisor == 0:
        raise no_token_in_step()
    tokens = torch.stack([counts_of(micro).sum().cpu() for micro in batches]).sum()
    if mean.over == "step":
        tokens = gather_fields({"tokens": tokens.view(1)}, device)[0]["tokens"].sum()
    return float(tokens) / mean.divisor

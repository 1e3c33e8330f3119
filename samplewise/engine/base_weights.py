"""What a sample counts before a rule weighs it: 1 each, or its tokens as the loop that asks averages over them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal

import torch
from torch import Tensor

from samplewise.core.distributed import gather_fields
from samplewise.core.errors import SamplewiseError
from samplewise.core.host import host
from samplewise.core.micro_batch import MicroBatch
from samplewise.core.weighing import no_token_in_step
from samplewise.engine.plan import Per, StepNorm
from samplewise.losses.token_losses import token_counts, token_mass


@dataclass(frozen=True)
class TokenMean:
    """How a loop averages over tokens, so that per="token" has its very loss and gradient under `uniform()`.

    over: "step": the mean over all tokens of all ranks; "rank": the mean of the ranks' means; "micro_batch": the mean
        of the micro-batches' means.
    divisor: how many tokens it divides by, read per token alone; None where that is how many are predicted. It is
        another number where labels do not shift for the loop (GPT-2), or where it counts the first tokens of rows that
        are padded on the left.
    shifted: whether it counts labels as they are after the shift, those first tokens among them.
    """

    over: Literal["step", "rank", "micro_batch"] = "step"
    divisor: float | Tensor | None = None
    shifted: bool = True


def counts_of(micro: MicroBatch) -> Tensor:
    """[n] predicted tokens of a micro-batch's samples; without token labels those that are given, else 1 each."""
    if micro.labels is None:
        return torch.ones(len(micro), dtype=torch.int64) if micro.counts is None else micro.counts
    return token_counts(micro.labels, micro.token_weights, micro.segments)


def with_base_weights(
    batches: Sequence[MicroBatch], per: Per, mean: TokenMean, norm: StepNorm = "weights"
) -> list[MicroBatch]:  # fmt: skip
    """The micro-batches with `base_weight` [n] fp64: 1 each, or per token what they count in the loop's own loss.

    Errors: SamplewiseError per token where there are no tokens to count before the forward: a loss of one's own; with
    norm "nonzero_tokens" where the loop does not average over all tokens of a step.
    """
    if norm == "nonzero_tokens" and mean.over != "step":
        raise SamplewiseError(
            "norm", expected=f"'weights' where means of tokens are averaged over each {mean.over}", got=repr(norm),
            remedy="Set average_tokens_across_devices=True, or train a model that takes num_items_in_batch.",
        )  # fmt: skip
    if per == "token" and any(micro.labels is None for micro in batches):
        raise SamplewiseError(
            "per", expected="'sample' for a loss of your own whose batches have no token labels", got="'token'",
            remedy="To weigh samples by their length, give the data a column sample_weight and take column_weights().",
        )  # fmt: skip
    counts = [_token_mass(micro).cpu().double() for micro in batches]
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


def own_base_weight(batches: Sequence[MicroBatch]) -> Tensor:
    """[1] the sum over this rank's samples of a step, fp64."""
    return torch.stack([micro.base_weight.sum() for micro in batches if micro.base_weight is not None]).sum().view(1)


def _token_mass(micro: MicroBatch) -> Tensor:
    if micro.labels is None:
        return counts_of(micro)
    return token_mass(micro.labels, micro.token_weights, micro.segments)


def loop_scale(batches: Sequence[MicroBatch], mean: TokenMean, unpredicted: int, device: torch.device) -> float:
    """What a loop's own mean over tokens is of ours: predicted tokens ÷ those it counts, over the ranks that share it.

    unpredicted: first tokens of left-padded rows on this rank, which nothing predicts.
    """
    if mean.divisor is None:
        return 1.0
    tokens = torch.stack([counts_of(micro).sum() for micro in batches]).sum().view(1).cpu()
    gone = torch.tensor([unpredicted if mean.shifted else 0])
    if mean.over == "step":
        every, _ = gather_fields({"tokens": tokens, "gone": gone}, device)
        tokens, gone = every["tokens"], every["gone"]
    counted = float(host(torch.as_tensor(mean.divisor))) - int(host(gone).sum())
    if counted <= 0:
        raise no_token_in_step()
    return int(host(tokens).sum()) / counted

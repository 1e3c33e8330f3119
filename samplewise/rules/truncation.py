"""Loss truncation: the highest losses are left out, against a quantile of the losses of past steps."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import TYPE_CHECKING

from samplewise.core.calls import called
from samplewise.core.rule import Rule, State
from samplewise.core.samples import Samples
from samplewise.rules.base import check_share, make_rule, share_of
from samplewise.rules.budget import Share, Steps, in_steps
from samplewise.rules.combinators import warmup as after

if TYPE_CHECKING:
    import torch
    from torch import Tensor
else:
    from samplewise.core.lazy import torch

MEMORY = 10_000
"""The losses that the quantile is of, at most: the latest; as many as the paper's code keeps."""


@called
def truncate(share: Share, warmup: Steps) -> Rule:
    """Leave out the samples whose loss is above the running (1 − share) quantile of past losses, after a warm-up.

    share: of the losses to leave out, in (0, 1). warmup: so many steps without, in which the quantile is learned, a
        whole number, or a share of the run in (0, 1).
    The quantile is the highest of the last 10,000 losses that stays if ⌊share·n⌋ of them are left out; a loss equal to
    it is kept. A step whose losses are all above it keeps the lowest. Pointwise: one pass, whose cost is 1 whatever is
    left out. The losses are those of all ranks, in the order of ids, and part of the state: 80 kB in a checkpoint.
    `band(drop_top=…, window=…)` is the same over a number of steps, without a warm-up.
    Source: loss truncation (Kang and Hashimoto, arXiv 2004.14589), against noise in the data.
    Errors: SamplewiseError if a number is out of range.

    >>> import samplewise as sw
    >>> weigher = sw.Weigher(sw.truncate(share=0.25, warmup=1))
    >>> [weigher(losses).tolist() for losses in ([1.0, 2.0, 3.0, 9.0], [0.5, 3.0, 3.5])]  # the quantile is 3
    [[1.0, 1.0, 1.0, 1.0], [1.5, 1.5, 0.0]]
    """
    level = check_share("share", share)
    rule = after(warmup, _truncated(level))
    resolved = None if rule.for_run_length is None else lambda total: truncate(level, in_steps(warmup, total))
    return replace(rule, expression=f"truncate(share={level}, warmup={warmup})", for_run_length=resolved)


def _truncated(share: float) -> Rule:
    """State: the latest losses, oldest first, and the highest that is kept (infinite where none was seen)."""

    def within(loss: Tensor, state: State) -> Tensor:
        return loss <= float(state["cutoff"])

    def body(weights: Tensor, samples: Samples, state: State) -> Tensor:
        kept = within(samples.loss, state)
        if not bool(kept.any()):  # a step needs one
            kept = samples.loss == samples.loss.min()
        return weights * kept.to(weights)

    def update(samples: Samples, weights: Tensor, state: State) -> State:
        past = state["losses"]
        assert isinstance(past, torch.Tensor)
        losses = torch.cat([past, samples.loss.double().cpu()])[-MEMORY:]
        ordered = losses.sort().values
        return {"losses": losses, "cutoff": float(ordered[len(ordered) - 1 - share_of(share, len(ordered))])}

    return make_rule(
        f"truncated(share={share})",
        body,
        init=lambda: {"losses": torch.zeros(0, dtype=torch.float64), "cutoff": math.inf},
        update=update,
        factor=lambda samples, state: within(samples.loss, state).to(samples.loss),
        multiplies=True,
        absolute=True,
    )

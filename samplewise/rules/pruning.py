"""Random dropping that leaves the expected gradient as it is."""

from __future__ import annotations

import math
from dataclasses import replace

import torch
from torch import Tensor

from samplewise.rules.base import check_seed, check_share, make_rule, uniforms
from samplewise.rules.budget import Share
from samplewise.rules.schedules import Number, Schedule, piecewise, schedulable
from samplewise.types import Rule, Samples, SamplewiseError, State

PAST = 0.9
"""The share of the running mean that a step leaves as it was: a memory of about ten steps."""
ANNEAL = 0.125


def infobatch(share: Number = 0.5, anneal: Share | None = None, seed: int = 0) -> Rule:
    """Drop a random `share` of the samples whose loss is below the running mean; the others like them count for them.

    share: in [0, 1), the chance of each such sample; those that stay weigh 1 / (1 − share), all others 1.
    anneal: the last share of the run in which nothing is dropped, in [0, 1): 0.125 if not given, and none where
        `share` is a schedule, which then says it. It needs the length of the run: `samplewise.rules.resolve`.
    seed: the choice is a pure function of (seed, step, id), so that no split of the step changes it.

    The running mean is that of past steps (a tenth of it is the last one's), so that the choice is pointwise: nothing
    is dropped in the first step, in which there is none. Divided by the number of samples and not by the sum of
    weights (norm "count"): the expected gradient is that of all samples. A step may, by chance, drop every sample.
    Source: InfoBatch (Qin et al., arXiv 2303.04947), whose running scores of a whole epoch are here a mean over steps:
    it needs no second epoch, and a forward pass of every sample.
    Errors: SamplewiseError if a share is out of range, or if anneal is given beside a schedule.

    >>> import samplewise as sw
    >>> rule, samples = sw.infobatch(share=0.5, anneal=0.0), sw.types.as_samples([1.0, 2.0, 3.0, 4.0])
    >>> second = sw.plan_step(rule, samples, rule.init()).state  # the running mean is 2.5
    >>> sw.plan_step(rule, samples, second).weights.tolist()
    [0.0, 2.0, 1.0, 1.0]
    """
    schedule = _annealed(share, anneal)
    over = schedule.over
    return replace(
        _infobatch(schedule, seed),
        expression=f"infobatch(share={schedule}, seed={check_seed(seed)})",
        over=None if over is None else lambda total: infobatch(over(total), seed=seed),
    )


def _annealed(share: Number, anneal: Share | None) -> Schedule:
    """The chance to be dropped, as a function of the step."""
    if not isinstance(share, Schedule):
        level = check_share("share", share, zero=True)
        rest = check_share("anneal", ANNEAL if anneal is None else anneal, zero=True)
        return piecewise(level, 1 - rest, 0.0) if rest > 0 else piecewise(level)
    if anneal is not None:
        raise SamplewiseError(
            "anneal", expected="None where share is a schedule", got=repr(anneal),
            remedy="Let the schedule of share end at 0.",
        )  # fmt: skip
    return share


@schedulable
def _infobatch(share: Number, seed: int) -> Rule:
    level, seed = check_share("share", share, zero=True), check_seed(seed)

    def factor(samples: Samples, state: State) -> Tensor:
        below = samples.loss < float(state["mean"])  # nothing is below NaN, the mean of no step
        dropped = uniforms(samples.id, int(state["step"]), seed) < level
        return torch.where(below, (~dropped).to(samples.loss) / (1 - level), 1.0)

    def update(samples: Samples, weights: Tensor, state: State) -> State:
        mean, old = float(samples.loss.mean()), float(state["mean"])
        return {"step": int(state["step"]) + 1, "mean": mean if math.isnan(old) else PAST * old + (1 - PAST) * mean}

    return make_rule(
        f"infobatch(share={share}, seed={seed})",
        lambda weights, samples, state: weights * factor(samples, state),
        init=lambda: {"step": 0, "mean": math.nan},
        update=update,
        factor=factor,
        norm="count",
    )

"""Random dropping that leaves the expected gradient as it is."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import TYPE_CHECKING, get_args

from samplewise.core.calls import called
from samplewise.core.errors import SamplewiseError
from samplewise.core.host import wide
from samplewise.core.rule import ByEpoch, Epoch, Rule, State
from samplewise.core.samples import Samples
from samplewise.rules.base import check_seed, check_share, make_rule, uniforms
from samplewise.rules.budget import Share
from samplewise.rules.schedules import Number, Schedule, piecewise, schedulable
from samplewise.rules.selection import Scope

if TYPE_CHECKING:
    import torch
    from torch import Tensor
else:
    from samplewise.core.lazy import torch

MEAN_DECAY = 0.9
"""The share of the running mean that a step leaves as it was: a memory of about ten steps."""
ANNEAL_SHARE = 0.125


@called
def infobatch(share: Number = 0.5, anneal: Share | None = None, seed: int = 0, scope: Scope = "step") -> Rule:
    """Drop a random `share` of the samples whose loss is below the running mean; the others like them count for them.

    share: in [0, 1), the chance of each such sample; those that stay weigh 1 / (1 − share), all others 1.
    anneal: the last share of the run in which nothing is dropped, in [0, 1): 0.125 if not given, and none where
        `share` is a schedule, which then says it. It needs the length of the run: `samplewise.rules.resolve`.
    seed: the choice is a pure function of (seed, step, id), so that no split of the step changes it; of (seed, epoch,
        id) where scope is "epoch".
    scope: "step", or "epoch": what is dropped is chosen at the beginning of each epoch, for all the data, among the
        samples whose last loss is below the mean of all last losses, and is not in the order of the epoch: such a
        sample costs nothing, not even a forward. It takes a trainer that makes that order, more than one epoch (unless
        the data has losses, in a column stored_loss: of samples never visited none is dropped) and a `share` that is a
        number; see docs/trainers.md.

    The running mean is that of past steps (a tenth of it is the last one's), so that the choice is pointwise: nothing
    is dropped in the first step, in which there is none. Divided by the number of samples and not by the sum of
    weights (norm "count"): the expected gradient is that of all samples. A step may, by chance, drop every sample.
    Source: InfoBatch (Qin et al., arXiv 2303.04947), which is scope "epoch"; within "step" its scores of a whole epoch
    are a mean over steps: it needs no second epoch, and a forward pass of every sample.
    Errors: SamplewiseError if a share is out of range, or if anneal is given beside a schedule.

    >>> import samplewise as sw
    >>> rule, samples = sw.infobatch(share=0.5, anneal=0.0), sw.core.samples.as_samples([1.0, 2.0, 3.0, 4.0])
    >>> second = sw.plan_step(rule, samples, rule.init()).state  # the running mean is 2.5
    >>> sw.plan_step(rule, samples, second).weights.tolist()
    [0.0, 2.0, 1.0, 1.0]
    """
    if scope not in get_args(Scope):
        raise SamplewiseError(
            "scope", expected='"step" or "epoch"', got=repr(scope)[:50], remedy='Use "step" for a run of one epoch.'
        )
    if scope == "epoch":
        return _once_an_epoch(share, anneal, seed)
    schedule = _annealed(share, anneal)
    for_run_length = schedule.for_run_length
    return replace(
        _infobatch(schedule, seed),
        expression=f"infobatch(share={schedule}, seed={check_seed(seed)})",
        for_run_length=None if for_run_length is None else lambda total: infobatch(for_run_length(total), seed=seed),
    )


def _annealed(share: Number, anneal: Share | None) -> Schedule:
    """The chance that a sample is dropped, as a function of the step."""
    if not isinstance(share, Schedule):
        level = check_share("share", share, zero=True)
        rest = check_share("anneal", ANNEAL_SHARE if anneal is None else anneal, zero=True)
        return piecewise(level, 1 - rest, 0.0) if rest > 0 else piecewise(level)
    if anneal is not None:
        raise SamplewiseError(
            "anneal", expected="None where share is a schedule", got=repr(anneal),
            remedy="Leave anneal out, and end the schedule of share at 0.",
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
        mean, old = float(wide(samples.loss).mean()), float(state["mean"])
        return {
            "step": int(state["step"]) + 1,
            "mean": mean if math.isnan(old) else MEAN_DECAY * old + (1 - MEAN_DECAY) * mean,
        }

    return make_rule(
        f"infobatch(share={share}, seed={seed})",
        lambda weights, samples, state: weights * factor(samples, state),
        init=lambda: {"step": 0, "mean": math.nan},
        update=update,
        factor=factor,
        norm="count",
    )


def _once_an_epoch(share: Number, anneal: Share | None, seed: int) -> Rule:
    if isinstance(share, Schedule):
        raise SamplewiseError(
            "share",
            expected='a number where scope is "epoch"',
            got=repr(share),
            remedy="Give a number; anneal sets where dropping ends.",
        )
    level, seed = check_share("share", share, zero=True), check_seed(seed)
    rest = check_share("anneal", ANNEAL_SHARE if anneal is None else anneal, zero=True)

    def pruned(ids: Tensor, state: State) -> Tensor:
        below = torch.as_tensor(state["below"]).to(ids.device)
        if not len(below):
            return torch.zeros_like(ids, dtype=torch.bool)
        return below[torch.searchsorted(below, ids).clamp(max=len(below) - 1)] == ids

    def dropped(ids: Tensor, state: State) -> Tensor:
        return pruned(ids, state) & (uniforms(ids, int(state["epoch"]), seed) < level)

    def factor(samples: Samples, state: State) -> Tensor:
        stays = (~dropped(samples.id, state)).to(samples.loss)
        return torch.where(pruned(samples.id, state), stays / (1 - level), 1.0)

    def begin(epoch: Epoch, state: State) -> State:
        loss, ids = epoch.samples.loss, epoch.samples.id
        below = loss < _mean_of_known(epoch.samples)  # NaN is not
        return {"epoch": epoch.number, "below": ids[below & (epoch.done < 1 - rest)].unique()}

    rule = make_rule(
        f'infobatch(share={level}, anneal={rest}, seed={seed}, scope="epoch")',
        lambda weights, samples, state: weights * factor(samples, state),
        init=lambda: {"epoch": 0, "below": torch.zeros(0, dtype=torch.int64)},
        factor=factor,
        needs_loss=False,
        norm="count",
    )
    return replace(rule, epochs=ByEpoch(begin, lambda ids, state: ~dropped(ids, state), until=1 - rest))


def _mean_of_known(samples: Samples) -> float:
    """Of the losses that there are, whatever the order of the samples; NaN without one."""
    loss = samples.loss[samples.id.argsort(stable=True)].double()
    return float(loss[loss.isfinite()].mean())

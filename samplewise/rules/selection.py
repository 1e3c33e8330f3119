"""Rules that leave samples out: weight 0, and no backward pass for them."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import TYPE_CHECKING, Literal, get_args

from samplewise.core.errors import SamplewiseError
from samplewise.core.rule import ByEpoch, Ranks, Rule, State
from samplewise.core.samples import Samples
from samplewise.rules.base import (
    check_number,
    check_seed,
    check_share,
    check_shares,
    counting,
    keep,
    make_rule,
    min_samples,
    share_of,
    uniforms,
)
from samplewise.rules.schedules import Number, schedulable
from samplewise.rules.windows import sliced

if TYPE_CHECKING:
    import torch
    from torch import Tensor
else:
    from samplewise.core.lazy import torch

Scope = Literal["step", "epoch"]


@schedulable
def mid_ranking(frac: Number, portion: int, window: int | None = None) -> Rule:
    """Keep one slice of the step's samples, ranked from the highest loss down.

    frac: the share of the samples in a slice, in (0, 1]; cap = ⌊frac·N⌋.
    portion: which slice: ranks [portion·cap, (portion + 1)·cap). 0 is the hardest, 1 "moderately high".
    window: as in `band`.
    Source: MidRanking of arXiv 2402.14270.
    Errors: SamplewiseError if no slice can have that number, or if N is too small for a slice of one sample.

    >>> import samplewise as sw
    >>> sw.weights(sw.mid_ranking(frac=0.25, portion=1), [1.0, 2.0, 3.0, 4.0]).tolist()
    [0.0, 0.0, 4.0, 0.0]
    """
    frac = check_share("frac", frac, one=True)
    if isinstance(portion, bool) or not isinstance(portion, int) or not 0 <= portion < (1 - 1e-9) / frac:
        raise SamplewiseError(
            "portion", expected=f"a whole number from 0 to {min_samples(frac) - 1} at frac={frac}", got=repr(portion),
            remedy="Slices are numbered from 0; later ones are empty.",
        )  # fmt: skip

    def ranks(n: int) -> tuple[int, int]:
        cap = share_of(frac, n)
        return portion * cap, min((portion + 1) * cap, n)

    return sliced(
        f"mid_ranking(frac={frac}, portion={portion})", ranks, lambda n: _too_few("frac", frac, n), window,
        min_samples=min_samples(frac),
    )  # fmt: skip


@schedulable
def band(drop_top: Number = 0.0, drop_bottom: Number = 0.0, window: int | None = None) -> Rule:
    """Drop the highest and the lowest losses of the step.

    drop_top, drop_bottom: shares in [0, 1), together below 1; ⌊share·N + 1e-9⌋ samples are dropped at each end.
    window: a number of steps: drop those beyond the thresholds that would have dropped these shares of all samples of
        the last `window` steps, so that shares may be finer than 1/N. Two passes until that many steps were seen,
        pointwise from then on; a step that has no sample between the thresholds keeps the nearest.
    A step in which a share above 0 drops nothing is run, counted and warned about once, with the least N it needs.
    Errors: SamplewiseError on shares out of range; in training, where not even the run's largest step has so many.
    Source: the "moderately high" losses of arXiv 2402.14270, as a band.

    >>> import samplewise as sw
    >>> sw.weights(sw.band(drop_top=0.25), [1.0, 2.0, 3.0, 9.0]).tolist()
    [1.3333333333333333, 1.3333333333333333, 1.3333333333333333, 0.0]
    """
    top, bottom = check_shares(drop_top, drop_bottom)
    shares = {name: share for name, share in (("drop_top", top), ("drop_bottom", bottom)) if share > 0}

    def check(n: int) -> SamplewiseError | None:
        found = [_too_few(name, share, n) for name, share in sorted(shares.items(), key=lambda each: each[1])]
        return next((error for error in found if error is not None), None)  # of the one that needs most

    def ranks(n: int) -> tuple[int, int]:
        return share_of(top, n), n - share_of(bottom, n)

    fewest = max(map(min_samples, shares.values()), default=0)
    return sliced(f"band(drop_top={top}, drop_bottom={bottom})", ranks, check, window, min_samples=fewest, drops=True)


@schedulable
def top_k(share: Number, window: int | None = None) -> Rule:
    """Keep the `share` of the step's samples with the highest losses (top-k of OHEM, arXiv 1604.03540).

    share: in (0, 1]; ⌊share·N⌋ samples are kept. Errors: SamplewiseError if that is none.
    window: as in `band`.

    >>> import samplewise as sw
    >>> sw.weights(sw.top_k(share=0.5), [1.0, 4.0, 3.0, 2.0]).tolist()
    [0.0, 2.0, 2.0, 0.0]
    """
    share = check_share("share", share, one=True)
    return sliced(
        f"top_k(share={share})", lambda n: (0, share_of(share, n)), lambda n: _too_few("share", share, n), window,
        min_samples=min_samples(share),
    )  # fmt: skip


@schedulable
def threshold(low: Number | None = None, high: Number | None = None) -> Rule:
    """Keep the samples whose loss lies within fixed limits, in nats per token.

    low, high: keep low ≤ loss ≤ high; one of them may be left out. For limits by shares: `band(…, window=64)`.
    Pointwise. Errors: SamplewiseError without a limit, or with low above high; in training, at a step without a
    sample within them.

    >>> import samplewise as sw
    >>> sw.weights(sw.threshold(low=1.5, high=3.0), [1.0, 2.0, 3.0, 4.0]).tolist()
    [0.0, 2.0, 2.0, 0.0]
    """
    given = {name: value for name, value in (("low", low), ("high", high)) if value is not None}
    if not given:
        raise SamplewiseError(
            "low, high", expected="at least one of them", got="none", remedy="For example threshold(high=4.0)."
        )
    ends = {
        name: check_number(name, value, -math.inf, "a finite loss, in nats per token", "For example 4.0.", above=True)
        for name, value in given.items()
    }
    lowest, highest = ends.get("low", -math.inf), ends.get("high", math.inf)
    if lowest > highest:
        raise SamplewiseError(
            "low, high", expected="low not above high", got=f"{lowest} and {highest}", remedy="Swap them."
        )

    def inside(samples: Samples) -> Tensor:
        return ((samples.loss >= lowest) & (samples.loss <= highest)).to(samples.loss)

    return make_rule(
        f"threshold({', '.join(f'{name}={value}' for name, value in ends.items())})",
        lambda weights, samples, state: weights * inside(samples),
        factor=lambda samples, state: inside(samples),
        multiplies=True,
        absolute=True,
    )


@schedulable
def sample_proportional(share: Number, seed: int = 0) -> Rule:
    """Keep a random `share` of the step's samples, drawn one after the other in proportion to their losses.

    share: in (0, 1]; exactly ⌊share·N⌋ samples are kept, without replacement; none of a loss of 0 or less while
        there are others. Those kept weigh what they weighed: hard samples count more by being there more often.
    seed: the choice is a pure function of (seed, step, id), so that no split of the step changes it.
    Source: the largest of log(loss) + Gumbel noise, which is successive drawing in proportion to the loss (Efraimidis
    and Spirakis, 2006; Kool et al., arXiv 1903.06059); a softer `top_k`. Not pointwise.
    Errors: SamplewiseError if share keeps none.

    >>> import samplewise as sw
    >>> (sw.weights(sw.sample_proportional(share=0.5), [1.0, 4.0, 3.0, 2.0]) > 0).sum().item()
    2
    """
    share, seed = check_share("share", share, one=True), check_seed(seed)

    def body(weights: Tensor, samples: Samples, state: State) -> Tensor:
        kept = _at_least_one("share", share, len(samples))
        by_id = samples.id.argsort(stable=True)
        u = uniforms(samples.id[by_id], int(state["step"]), seed)
        gumbel = -torch.log(-torch.log(u + 2.0**-54))
        order = (samples.loss[by_id].double().clamp(min=1e-30).log() + gumbel).argsort(descending=True, stable=True)
        return keep(weights, by_id[order[:kept]])

    return make_rule(
        f"sample_proportional(share={share}, seed={seed})",
        body,
        init=lambda: {"step": 0},
        update=lambda samples, weights, state: counting(state),
        absolute=True,
    )


@schedulable
def random_keep(share: Number, seed: int = 0, scope: Scope = "step") -> Rule:
    """Keep a random `share` of the step's samples: the control that a selection of the same size must beat.

    share: in (0, 1]; exactly ⌊share·N⌋ samples are kept. Errors: SamplewiseError if that is none.
    seed: the choice is a pure function of (seed, step, id), so that no split of the step changes it; of (seed, epoch,
        id) where scope is "epoch".
    scope: "step", or "epoch": every sample stays in the order of an epoch with the chance `share`, a number, and costs
        nothing otherwise: the control of `infobatch(scope="epoch")`. It takes a trainer that makes that order.

    >>> import samplewise as sw
    >>> (sw.weights(sw.random_keep(share=0.5), [1.0, 4.0, 3.0, 2.0]) > 0).sum().item()
    2
    """
    share, seed = check_share("share", share, one=True), check_seed(seed)
    if scope not in get_args(Scope):
        raise SamplewiseError(
            "scope", expected='"step" or "epoch"', got=repr(scope)[:50], remedy='Use "step", which needs no epochs.'
        )
    if scope == "epoch":
        return _once_an_epoch(share, seed)

    def body(weights: Tensor, samples: Samples, state: State) -> Tensor:
        kept = _at_least_one("share", share, len(samples))
        by_id = samples.id.argsort(stable=True)
        order = uniforms(samples.id[by_id], int(state["step"]), seed).argsort(stable=True)
        return keep(weights, by_id[order[:kept]])

    rule = make_rule(
        f"random_keep(share={share}, seed={seed})",
        body,
        init=lambda: {"step": 0},
        update=lambda samples, weights, state: counting(state),
        needs_loss=False,
        absolute=True,
    )
    return rule.ranking((Ranks("random", lambda n: (0, share_of(share, n)), min_samples(share), seed),))


def _once_an_epoch(share: float, seed: int) -> Rule:
    def keeps(ids: Tensor, state: State) -> Tensor:
        return uniforms(ids, int(state["epoch"]), seed) < share

    def factor(samples: Samples, state: State) -> Tensor:
        return keeps(samples.id, state).to(samples.loss)

    rule = make_rule(
        f'random_keep(share={share}, seed={seed}, scope="epoch")',
        lambda weights, samples, state: weights * factor(samples, state),
        init=lambda: {"epoch": 0},
        factor=factor,
        needs_loss=False,
        norm="count",
    )
    by_epoch = ByEpoch(lambda epoch, state: {"epoch": epoch.number}, keeps, needs_loss=False)
    return replace(rule, epochs=by_epoch)


def _too_few(name: str, share: float, n: int) -> SamplewiseError | None:
    """The error of a share that keeps or drops none of n samples; None where it does."""
    if share_of(share, n) > 0:
        return None
    return SamplewiseError(
        name, expected=f"a step of at least {min_samples(share)} samples for a share of {share}", got=f"{n} samples",
        remedy="Raise the share, the batch size or the accumulation.",
    )  # fmt: skip


def _at_least_one(name: str, share: float, n: int) -> int:
    error = _too_few(name, share, n)
    if error is not None:
        raise error
    return share_of(share, n)

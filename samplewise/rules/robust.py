"""Worst cases within a set: the weights that maximise the mean loss as far as the set allows."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from samplewise.core.host import host
from samplewise.core.rule import Rule, State
from samplewise.core.samples import Samples
from samplewise.rules.base import check_number, check_share, descending, make_rule
from samplewise.rules.schedules import Number, schedulable

if TYPE_CHECKING:
    import torch
    from torch import Tensor
else:
    from samplewise.core.lazy import torch

NEGLIGIBLE_PART = 1e-6
"""Of a sample, less than this is none and more than the rest is all: 0.3 of 10 is 3 in floating point too."""


@schedulable
def chi2_dro(rho: Number) -> Rule:
    """The largest mean loss within a χ² ball round uniform: weights in proportion to max(loss − η, 0).

    rho: the ball is (1/2N) Σ (N p_i − 1)² ≤ rho, above 0; ESS / N = 1 / (1 + 2·rho) as long as ties at the top allow
        it. From rho = (N − 1) / 2 on it is the single hardest sample. Samples of a loss below η are left out.
    Over the samples present; where the weights on entry are not equal, the ball is round those.
    Source: argmax_p Σ p_i L_i within the ball (Duchi and Namkoong, arXiv 1610.02581; Levy et al., arXiv 2010.05893),
    η solved exactly by sorting. Not pointwise.
    Errors: SamplewiseError if rho is not a finite number above 0.

    >>> import samplewise as sw
    >>> [round(w, 3) for w in sw.weights(sw.chi2_dro(rho=0.1), [1.0, 2.0, 3.0, 4.0]).tolist()]
    [0.4, 0.8, 1.2, 1.6]
    """
    rho = check_number("rho", rho, 0, "a finite radius above 0", "uniform() is rho → 0.", above=True)

    def body(weights: Tensor, samples: Samples, state: State) -> Tensor:
        order, q = _ordered(weights, samples)
        loss = samples.loss.double()
        gap = loss.max() - loss
        depth = _depth(gap[order], q, rho)
        return weights * ((1 - gap / depth).clamp(min=0) if depth > 0 else gap == 0).to(weights)

    return make_rule(f"chi2_dro(rho={rho})", body)


def _depth(gap: Tensor, q: Tensor, rho: float) -> float:
    """How far η lies below the maximum, for Σ p²/q = 1 + 2·rho; 0 if even the maxima alone do not reach it.

    gap: [N] distance from the maximum, ascending. q: [N] sums to 1. While the first k samples have weight, with mass A,
    mean m and variance v of the gap under q, Σ p²/q = (v + x²) / (A·x²), where x = depth − m. It falls as depth grows,
    so the number of samples with weight is where it crosses 1 + 2·rho, looked up at the depths of the samples.
    """
    mass = q.cumsum(0)
    mean = (q * gap).cumsum(0) / mass
    variance = ((q * gap * gap).cumsum(0) / mass - mean * mean).clamp(min=0)
    outside = torch.cat([q.flip(0).cumsum(0).flip(0)[1:], q.new_zeros(1)])
    excess = 2 * rho * mass - outside  # A·(1 + 2·rho) − 1, of which a small rho would leave nothing in floating point
    x = gap - mean  # for a depth that ends at each sample
    k = int(host((variance > excess * x * x) | (gap == 0)).sum()) - 1  # the last sample that has weight
    last = torch.stack([gap[k], mean[k], variance[k], excess[k]]).tolist()
    if last[0] == 0:  # the maxima alone, as ties of them have no variance to solve with
        return 0.0
    return last[1] + math.sqrt(last[2] / last[3])


@schedulable
def cvar(alpha: Number) -> Rule:
    """The mean of the worst `alpha` share of the step's samples: CVaR, also called expected shortfall.

    alpha: in (0, 1]; 1 is uniform. Of the alpha·N hardest samples the last counts with what is left of it, and ties
        there share that, so that the share is exact for every N; below 1/N it is the hardest sample.
    Over the samples present; where the weights on entry are not equal, it is that share of their sum.
    Source: argmax_p Σ p_i L_i with p_i ≤ 1 / (alpha·N) (Rockafellar and Uryasev, 2000; for training, Levy et al.,
    arXiv 2010.05893). Not pointwise. Errors: SamplewiseError if alpha is not in (0, 1].

    >>> import samplewise as sw
    >>> sw.weights(sw.cvar(alpha=0.375), [1.0, 2.0, 3.0, 4.0]).tolist()
    [0.0, 0.0, 1.3333333333333333, 2.6666666666666665]
    """
    alpha = check_share("alpha", alpha, one=True)

    def body(weights: Tensor, samples: Samples, state: State) -> Tensor:
        order, q = _ordered(weights, samples)
        loss, shares = host(samples.loss[order]), host(q)
        boundary = float(loss[(shares.cumsum() >= alpha - NEGLIGIBLE_PART * shares).argmax()])
        above, tied = float(shares[loss > boundary].sum()), float(shares[loss == boundary].sum())
        part = (alpha - above) / tied if above > 0 else 1.0
        part = min(max(part, 0.0), 1.0) if part < 1 - NEGLIGIBLE_PART else 1.0  # below 0 by the rounding of 10⁶ sums
        return weights * ((samples.loss > boundary).to(weights) + part * (samples.loss == boundary))

    return make_rule(f"cvar(alpha={alpha})", body)


def _ordered(weights: Tensor, samples: Samples) -> tuple[Tensor, Tensor]:
    """([N] positions from the highest loss down, [N] fp64 weights in that order, of sum 1)."""
    order = descending(samples)
    q = weights[order].double()
    q = q / q.max()
    return order, q / q.sum()

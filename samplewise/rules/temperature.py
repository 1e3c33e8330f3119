"""The temperature that puts exponential weights at a chosen distance from uniform."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import TYPE_CHECKING, Literal

from samplewise.core.host import wide
from samplewise.core.samples import Samples
from samplewise.rules.base import descending

if TYPE_CHECKING:
    import numpy as np
    from torch import Tensor
else:
    from samplewise.core.lazy import numpy as np

Distance = Literal["kl", "ess"]


def solve_temperature(kind: Distance, target: float, weights: Tensor, samples: Samples) -> tuple[float, bool]:
    """(r, reached): the r above 0 at which p ∝ weights · exp(loss / r) has this distance from the weights.

    kind, target: "kl": Σ p log(p / q) = target, in nats; "ess": 1 / Σ q (p / q)² = target, a share. q are the weights
        scaled to sum 1: for equal weights this is KL(p ‖ uniform) = target, and ESS / N = target.
    weights, samples: [N], those present, weights above 0.

    Both grow without a turn on the way from uniform (r = ∞) to the weights of the maxima alone (r = 0). A target
    that lies behind that end gives r = 0 and reached = False; one that is the end itself, r = 0 and True.
    Cost: one sort, then about ten passes over N floats of fp64. Found to 1e-10 of the target, and 1e-14.
    """
    order = descending(samples)  # sums must not depend on the order in which samples come
    gap = wide(samples.loss[order])
    gap = gap[0] - gap  # ≥ 0, and 0 for the maxima: no exponent below is positive
    q = wide(weights[order])
    q = q / q.max()
    q = q / q.sum()
    goal = target if kind == "kl" else -math.log(target)
    end = -math.log(q[gap == 0].sum())  # of either distance, both in nats
    if goal >= end - 1e-9:
        return 0.0, goal <= end + 1e-9
    distance = _kl if kind == "kl" else _log_share
    return 1 / _root(lambda t: distance(t, gap, q), goal, gap, q), True


def _kl(t: float, gap: np.ndarray, q: np.ndarray) -> tuple[float, float]:
    """KL(p ‖ q) for p ∝ q·exp(−t·gap), and t times its derivative by t."""
    u = q * np.exp(-t * gap)
    total = u.sum()
    p = u / total
    mean = (p * gap).sum()
    return float(-t * mean - np.log(total)), t * t * float((p * (gap - mean) ** 2).sum())


def _log_share(t: float, gap: np.ndarray, q: np.ndarray) -> tuple[float, float]:
    """−log(ESS / N) for the same p, and t times its derivative by t."""
    e = np.exp(-t * gap)
    once, twice = q * e, q * e * e
    sums = once.sum(), twice.sum()
    means = (once * gap).sum() / sums[0], (twice * gap).sum() / sums[1]
    return float(np.log(sums[1]) - 2 * np.log(sums[0])), 2 * t * float(means[0] - means[1])


def _root(
    distance: Callable[[float], tuple[float, float]], goal: float, gap: np.ndarray, q: np.ndarray
) -> float:  # fmt: skip
    """The t at which `distance` is `goal`: Newton on the logarithms of both, kept within a shrinking bracket.

    distance: t -> (value, t·derivative), increasing. For small t it is t²·Var/2 (KL) or t²·Var (ESS), a straight line
    in logarithms, so that Newton is nearly there at once; where it bends, the bracket is halved instead.
    """
    wide, near = float(gap[-1]), float(gap[gap > 0][0])
    mean = float((q * gap).sum())
    spread = math.sqrt(float((q * (gap - mean) ** 2).sum())) or wide
    low, high = math.log(1e-12) - math.log(wide), min(math.log(750) - math.log(near), 700)  # exp(−750) is 0
    x = min(max(math.log(math.sqrt(2 * goal)) - math.log(spread), low), high)
    for _ in range(200):
        value, slope = distance(math.exp(x))
        if abs(value - goal) <= 1e-10 * min(goal, 1.0) + 1e-14 or high - low < 1e-15 * max(1.0, abs(x)):
            break
        low, high = (x, high) if value < goal else (low, x)
        new = x + math.log(goal / value) * value / slope if value > 0 and slope > 0 else math.nan
        x = new if low < new < high else (low + high) / 2
    return math.exp(x)

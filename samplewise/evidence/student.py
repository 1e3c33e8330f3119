"""Student's t for whole degrees of freedom by its finite series (Abramowitz and Stegun, 26.7.3, 26.7.4)."""

from __future__ import annotations

import math
from functools import cache


@cache
def t_quantile(probability: float, degrees: int) -> float:
    """The quantile of Student's t for a whole number of degrees of freedom, by bisection, to about 1e-10.

    probability: above 0.5 and below 1. Beyond 2,000 degrees those of 2,000 are taken, 0.03% wider than a normal's.

    >>> round(t_quantile(0.975, 10), 6)
    2.228139
    """
    degrees = min(degrees, MOST)
    low, high = 0.0, math.pi / 2  # of the angle atan(t / √degrees)
    for _ in range(100):
        angle = (low + high) / 2
        low, high = (angle, high) if _within(angle, degrees) < 2 * probability - 1 else (low, angle)
    return math.tan((low + high) / 2) * math.sqrt(degrees)


def t_tail(t: float, degrees: int) -> float:
    """P(|T| > t): the two-sided p of a statistic `t` of at least 0.

    >>> round(t_tail(2.228139, 10), 6)
    0.05
    """
    degrees = min(degrees, MOST)
    return min(1.0, max(0.0, 1.0 - _within(math.atan(t / math.sqrt(degrees)), degrees)))


MOST = 2000


def _within(angle: float, degrees: int) -> float:
    """P(|T| < √degrees · tan(angle))."""
    odd = degrees % 2
    cosine = math.cos(angle)
    term, total = (cosine if odd else 1.0), 0.0
    for k in range((degrees - odd) // 2):
        total += term
        term *= cosine**2 * ((2 * k + 2) / (2 * k + 3) if odd else (2 * k + 1) / (2 * k + 2))
    total *= math.sin(angle)
    return 2 / math.pi * (angle + total) if odd else total

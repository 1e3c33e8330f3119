"""How calmly an arm trained: the spread of its gradient norms, and the spikes of its loss."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

BEHIND = 16
"""The number of earlier steps that a loss is compared with."""


def stability(norms: Sequence[Sequence[float]], losses: Sequence[Sequence[float]]) -> dict[str, Any]:
    """gradient_norm: its median, and the 95th percentile over it; spikes: per 100 steps. Over the runs of all seeds.

    norms: before clipping, one a step. losses: unweighted training losses of the steps, nats/token.
    """
    pooled = np.concatenate([np.asarray(each, float) for each in norms])
    medians = [float(np.median(each)) for each in norms if len(each)]
    ratios = [float(np.quantile(each, 0.95) / np.median(each)) for each in norms if len(each) and np.median(each) > 0]
    count = sum(spikes(each) for each in losses)
    return {
        "gradient_norm": {"median": float(np.mean(medians)), "p95_over_median": float(np.mean(ratios))}
        if len(pooled) and ratios else None,
        "spikes_per_100_steps": 100 * count / max(1, sum(map(len, losses))),
    }  # fmt: skip


def spikes(losses: Sequence[float]) -> int:
    """Steps whose loss is more than 4 robust standard deviations (1.48 MAD) above the median of the 16 before it.

    >>> spikes([3.0, 3.1, 2.9] * 10 + [5.0] + [3.0, 3.1, 2.9] * 10)
    1
    """
    values = np.asarray(losses, float)
    found = 0
    for i in range(BEHIND, len(values)):
        behind = values[i - BEHIND : i]
        centre = np.median(behind)
        spread = 1.4826 * np.median(np.abs(behind - centre))
        found += bool(values[i] > centre + 4 * max(spread, 1e-12))
    return found

"""Samples in quantiles of their loss, and means of anything by quantile with 95% intervals."""

from __future__ import annotations

from typing import Any

import numpy as np

from samplewise.evidence.student import t_quantile


def quantile_of(losses: np.ndarray, count: int) -> np.ndarray:
    """[N] the number of each sample's quantile, 0 the lowest losses; of equal size but for one sample.

    >>> quantile_of(np.array([3.0, 1.0, 2.0, 4.0]), 2).tolist()
    [1, 0, 0, 1]
    """
    ranks = np.empty(len(losses), np.int64)
    ranks[np.argsort(losses, kind="stable")] = np.arange(len(losses))
    return ranks * count // len(losses)


def mean_with_interval(values: np.ndarray) -> dict[str, float]:
    """{"mean", "low", "high"} of independent values, by Student's t.

    >>> mean_with_interval(np.array([1.0, 2.0, 3.0]))["mean"]
    2.0
    """
    mean = float(values.mean())
    margin = t_quantile(0.975, len(values) - 1) * float(values.std(ddof=1)) / len(values) ** 0.5
    return {"mean": mean, "low": mean - margin, "high": mean + margin}


def by_quantile(values: np.ndarray, quantile: np.ndarray) -> list[dict[str, Any]]:
    """For each quantile the mean of `values` [N] with its interval."""
    return [mean_with_interval(values[quantile == q]) for q in range(int(quantile.max()) + 1)]

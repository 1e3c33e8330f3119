"""Whether the ranking by loss is a property of the text: its agreement between checkpoints and between models."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np


def spearman(a: np.ndarray, b: np.ndarray) -> float:
    """The correlation of ranks, ties sharing their mean rank.

    >>> spearman(np.array([1.0, 2.0, 3.0]), np.array([10.0, 20.0, 15.0]))
    0.5
    """
    x, y = _ranks(a), _ranks(b)
    x, y = x - x.mean(), y - y.mean()
    scale = float(np.sqrt((x**2).sum() * (y**2).sum()))
    return round(float((x * y).sum()) / scale, 12) if scale > 0 else 0.0


def _ranks(values: np.ndarray) -> np.ndarray:
    order = np.argsort(values, kind="stable")
    sorted_ = values[order]
    first, last = np.searchsorted(sorted_, sorted_, "left"), np.searchsorted(sorted_, sorted_, "right")
    ranks = np.empty(len(values))
    ranks[order] = (first + last - 1) / 2
    return ranks


def agreements(losses: Mapping[str, np.ndarray], drop_top: float = 0.125) -> list[dict[str, Any]]:
    """For every pair of models the correlation of ranks, and of the samples in the top share under one how many are in
    it under the other (the share itself is what chance gives).
    """
    names, found = list(losses), []
    for i, first in enumerate(names):
        for second in names[i + 1 :]:
            a, b = losses[first], losses[second]
            k = max(1, int(drop_top * len(a)))
            top = set(np.argsort(-a, kind="stable")[:k]) & set(np.argsort(-b, kind="stable")[:k])
            found.append({"first": first, "second": second, "spearman": spearman(a, b), "top_shared": len(top) / k})
    return found

"""Decision trees, whose sum is a number a text: what one measure makes of another, such as length or kind of text."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class Trees:
    """Nodes of T trees of up to M nodes each, the root first, in arrays [T, M].

    feature: the column that a node asks for. border: above it, or nan where `nan` says so, the path continues at
    `after` + 1, else at `after`; a leaf has `after` 0. value: of leaves.
    """

    feature: np.ndarray
    border: np.ndarray
    nan: np.ndarray
    after: np.ndarray
    value: np.ndarray

    def sums(self, rows: np.ndarray) -> np.ndarray:
        """[N] the sum over all trees. rows: [N, columns], nan where a measure is blind."""
        blind = np.isnan(rows)
        # each column twice: nan as less than any border, and as more
        both = np.c_[np.where(blind, -np.inf, rows), np.where(blind, np.inf, rows)].astype(np.float32).ravel()
        width = rows.shape[1]
        column = (self.feature + width * self.nan).astype(np.int32).ravel()
        after, border = self.after.astype(np.int32).ravel(), self.border.ravel()
        first = np.arange(len(self.feature), dtype=np.int32) * self.feature.shape[1]
        node = np.zeros((len(rows), len(first)), np.int32)
        own = np.arange(len(rows), dtype=np.int32)[:, None] * (2 * width)
        while True:
            place = node + first
            on = after.take(place)
            if not on.any():
                return self.value.ravel().take(place).sum(1, dtype=np.float64)
            right = both.take(column.take(place) + own) > border.take(place)
            node = np.where(on > 0, on + right, node)


def none() -> Trees:
    """One leaf of 0: what stands before trees are fitted."""
    zero = np.zeros((1, 1))
    return Trees(
        zero.astype(np.int16), zero.astype(np.float32), zero > 0, zero.astype(np.int16), zero.astype(np.float32)
    )

"""Decision trees, whose sum is a number a text: what one measure makes of another, such as length or kind of text."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class Trees:
    """Nodes of T trees of up to M nodes each, the root first, in arrays [T, M].

    feature: the column that a node asks for. border: above it, or nan where `nan` says so, the path goes on at
    `after` + 1, else at `after`; a leaf has `after` 0. value: of leaves.
    """

    feature: np.ndarray
    border: np.ndarray
    nan: np.ndarray
    after: np.ndarray
    value: np.ndarray

    def sums(self, rows: np.ndarray) -> np.ndarray:
        """[N] the sum over all trees. rows: [N, columns], nan where a measure is blind."""
        tree = np.arange(len(self.feature))[None, :]
        node = np.zeros((len(rows), len(self.feature)), np.int64)
        own = np.arange(len(rows))[:, None]
        rows = rows.astype(np.float32)
        while True:
            after = self.after[tree, node].astype(np.int64)
            if not after.any():
                return self.value[tree, node].sum(1, dtype=np.float64)
            asked = rows[own, self.feature[tree, node]]
            with np.errstate(invalid="ignore"):
                right = np.where(np.isnan(asked), self.nan[tree, node], asked > self.border[tree, node])
            node = np.where(after > 0, after + right, node)


def none() -> Trees:
    """One leaf of 0: what stands before trees are fitted."""
    zero = np.zeros((1, 1))
    return Trees(
        zero.astype(np.int16), zero.astype(np.float32), zero > 0, zero.astype(np.int16), zero.astype(np.float32)
    )

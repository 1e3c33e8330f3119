"""Where the loss changes within a window: one text that ends inside of it, and another that begins, often differ."""

from __future__ import annotations

import numpy as np

SIDE = 16
"""Tokens on each side of a place where the loss may change, at least."""


def changes(values: np.ndarray, rows: np.ndarray, counts: np.ndarray) -> np.ndarray:
    """[B] mean loss after a place less the mean before it, nats/token, at the place of each row that parts its losses
    best: where k (n − k) / n · difference² is largest (Page's CUSUM). NaN for rows of fewer than 2 · `SIDE` tokens.

    values, rows: [P] token losses, row by row, and the row of each. counts: [B] tokens of each row.

    >>> changes(np.r_[np.ones(20), np.full(30, 4.0)], np.zeros(50, int), np.array([50]))
    array([3.], dtype=float32)
    """
    width = int(counts.max())
    matrix = np.zeros((len(counts), width))
    matrix[rows, np.arange(len(values)) - (np.cumsum(counts) - counts)[rows]] = values
    before = matrix.cumsum(1, out=matrix)
    n, k = counts[:, None], np.arange(1, width + 1)
    with np.errstate(invalid="ignore"):  # inf - inf, of a window that will be quarantined
        difference = (before[:, -1:] - before) / np.maximum(n - k, 1) - before / k
        parted = np.where((k >= SIDE) & (k <= n - SIDE), k * (n - k) / n * difference**2, -1.0)
    at = np.nan_to_num(parted, nan=-1.0).argmax(1)
    row = np.arange(len(counts))
    return np.where(parted[row, at] >= 0, difference[row, at], np.nan).astype(np.float32)

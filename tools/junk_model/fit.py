"""Of what is measured on clean text and on the same text made worse: what is usual, what counts how much, the
border.
"""

from __future__ import annotations

import random
from dataclasses import dataclass

import numpy as np

from samplewise.corpus.junk.measures import KINDS, Measured
from samplewise.corpus.junk.score import COLUMNS, FAR, WEAK

CLEAN = "clean"
REACHED = (0.025, 0.025, 0.025, 0.01)
"""Share of the clean texts of each kind that may reach the border: among them are some that no one would call clean.

Of LaTeX, of which there are few, fewer: what has not been seen of it is more.
"""
STEPS, RATE, SHRINK = 4000, 0.05, 2e-3


@dataclass(frozen=True)
class Sample:
    """A clean text to develop with: group: an index into `KINDS`; source; half: the model that may
    judge.
    """

    group: int
    source: str
    half: int
    text: str


def usual(measured: Measured, group: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """[4, M + 1] medians and scales of clean texts by kind: from the median to the 95th percentile, by 1.645."""
    values = np.c_[measured.values, measured.values[:, list(COLUMNS).index("compressed")]]
    middle, scale = np.zeros((len(KINDS), len(COLUMNS))), np.ones((len(KINDS), len(COLUMNS)))
    for kind in range(len(KINDS)):
        own = values[(measured.kind == kind) & (group == kind)]
        for column, name in enumerate(COLUMNS):
            known = own[:, column][~np.isnan(own[:, column])]
            if len(known) < 50:
                continue
            low, half, high = np.quantile(known, [0.05, 0.5, 0.95])
            middle[kind, column] = half
            scale[kind, column] = max(
                (half - low if name == "compressed" else high - half) / 1.645, FLOORS.get(name, 0.02)
            )
    return middle, scale


FLOORS = {"garbled": 0.3, "garbled part": 0.4, "compressed": 0.2, "incompressible": 0.2, "seam": 0.05, "backwards": 0.3,
          "strange": 0.01, "mixed words": 0.01, "phrases": 0.01}  # fmt: skip


NEAR_LEAST = {"seam": 0.4, "backwards": 0.8, "garbled": 0.3}
FAR_LEAST = {
    "garbled": 0.8, "garbled part": 0.4, "unknown words": 0.8, "order 1": 0.8, "languages": 0.3, "compressed": 0.8,
    "repeated": 0.8, "encoded": 0.8, "markup": 0.3, "symbols": 0.5, "digits": 0.5, "strange": 0.8,
    "mixed words": 0.5, "short lines": 0.2, "phrases": 0.5, "incompressible": 0.5,
}  # fmt: skip
"""What each measure counts at least: kinds of noise that nobody has met need others than those that were met."""


def weights(parts: np.ndarray, noisy: np.ndarray, kind: np.ndarray, worth: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """([2, M] weights, none below 0; [4] borders): a logistic regression, and where few clean texts reach.

    parts: [N, M] surprises. noisy: [N]. kind: [N]. worth: [N] of each text in the fit.
    """
    both = np.concatenate([parts, np.maximum(parts - FAR, 0)], 1)
    least = np.array([own.get(name, 0.0) for own in (NEAR_LEAST, FAR_LEAST) for name in COLUMNS])
    weight, border = least + 0.1, np.full(len(KINDS), 3.0)
    state = np.zeros((2, both.shape[1] + len(KINDS)))
    share = worth / worth.sum()
    for step in range(1, STEPS + 1):
        chance = 1 / (1 + np.exp(-np.clip(both @ weight - border[kind], -30, 30)))
        error = (chance - noisy) * share
        slope = np.r_[both.T @ error + SHRINK * weight / 10, -np.bincount(kind, error, len(KINDS))]
        state[0] = 0.9 * state[0] + 0.1 * slope
        state[1] = 0.999 * state[1] + 0.001 * slope**2
        move = RATE * (state[0] / (1 - 0.9**step)) / (np.sqrt(state[1] / (1 - 0.999**step)) + 1e-8)
        weight = np.maximum(weight - move[: len(weight)], least)
        border = border - move[len(weight) :]
    sums = both @ np.where(np.isin([*COLUMNS, *COLUMNS], WEAK), 0, weight)
    for own in range(len(KINDS)):
        border[own] = np.quantile(sums[(kind == own) & (noisy == 0)], 1 - REACHED[own])
    return weight.reshape(2, -1), border


def cut(text: str, draw: random.Random) -> str:
    """The first 400 to 800 characters."""
    return text.strip()[: draw.randint(400, 800)]

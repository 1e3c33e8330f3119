"""Of what is measured on clean text and on the same text made worse: what is usual, the trees, the borders, and how
many clean texts reach which score.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from junk_model.boost import boosted
from junk_model.documents import SORTS
from junk_model.samples import CLEAN, HIDDEN
from samplewise.corpus.junk.measures import KINDS, Measured
from samplewise.corpus.junk.model import GRID, Model
from samplewise.corpus.junk.score import BANDS, COLUMNS, FAR, GROUPS, borders, groups, parts_of, rows, summed, surprises
from samplewise.corpus.junk.trees import Trees

REACHED = (0.02, 0.02, 0.02, 0.01, 0.02)
"""Share of the clean texts of each group, whatever their length, that may reach the border, each sort counted alike:
among them are some that no one would call clean. Of LaTeX, which differs most from package to package, fewer.
"""
WORST = 0.05
"""Share of the clean LaTeX of any one package that may reach the border: of at least `OF_PACKAGE` texts."""
OF_PACKAGE = 20
WORTH = {"latex": 0.6, "licence": 0.6}
"""What the clean texts of a sort count together, beside 1 for the others; the noise made of them as much."""
FEWEST = 100
"""Clean texts of a group and length below which its border is that of all lengths; where all lengths have fewer, it is
the highest sum of a clean text: of so few, no share of 2% is known.
"""
HARD = 0.2
"""What noise that nobody could be sure of counts, beside 1."""
STEPS, RATE, SHRINK = 2000, 0.05, 2e-3


@dataclass(frozen=True)
class Measures:
    """measured: of all texts. kind: [N] of noise, or `CLEAN`. sort, source: [N] of the text it was made of. half: [N]
    of the sources.
    """

    measured: Measured
    kind: np.ndarray
    sort: np.ndarray
    source: np.ndarray
    half: np.ndarray

    @property
    def clean(self) -> np.ndarray:
        """[N] whether each is clean."""
        return self.kind == CLEAN

    def worth(self, asked: np.ndarray) -> np.ndarray:
        """[N] what each of those asked counts: every sort alike, its clean texts as much as its noise."""
        found = np.zeros(len(self.kind))
        for sort, name in enumerate(SORTS):
            for own in (self.clean, ~self.clean):
                inside = asked & own & (self.sort == sort)
                found[inside] = WORTH.get(name, 1.0) / max(1, inside.sum())
        found[np.isin(self.kind, HIDDEN)] *= HARD
        return found * asked.sum() / found.sum()


def fitted(known: Model, made: Measures) -> Model:
    """The model with all that clean text and noise give."""
    middle, scale = usual(made.measured, made.clean)
    known = replace(known, usual=middle, scale=scale)
    every = np.ones(len(made.kind), bool)
    beyond = surprises(made.measured, known)
    weight = weights(beyond, (~made.clean).astype(float), made.measured.kind, made.worth(every))
    known = replace(known, weight=weight, trees=_trees(made, every))
    sums, parts = np.zeros(len(made.kind)), parts_of(made.measured, known)
    for part in (0, 1):
        other = made.half != part
        sums[~other] = summed(made.measured, parts, _trees(made, other))[~other]
    border = _borders(sums, made)
    return replace(known, border=border, tail=_tails(sums - borders(made.measured, border), made))


def _trees(made: Measures, asked: np.ndarray) -> Trees:
    table = rows(made.measured)
    return boosted(table[asked], (~made.clean[asked]).astype(int), made.worth(asked)[asked])


def _borders(sums: np.ndarray, made: Measures) -> np.ndarray:
    """[5, bands] of the sums that trees give which have not seen the half of a text."""
    found = np.zeros((GROUPS, len(BANDS) + 1))
    worth, group = made.worth(np.ones(len(sums), bool)), groups(made.measured)
    for band in range(found.shape[1]):
        one = np.zeros_like(found)
        one[:, band] = 1
        for own in range(GROUPS):
            every = made.clean & (group == own)
            asked = every & (borders(made.measured, one) > 0)
            asked = asked if asked.sum() >= FEWEST else every
            reached = REACHED[own] if asked.sum() >= FEWEST else 0.0
            found[own, band] = _quantile(sums[asked], worth[asked], 1 - reached)
            if KINDS[own : own + 1] == ("LaTeX",):
                found[own, band] = max(found[own, band], _worst(sums[asked], made.source[asked]))
    return found


def _worst(sums: np.ndarray, source: np.ndarray) -> float:
    """The border of the package of which most would reach that of the others."""
    own = [sums[source == name] for name in np.unique(source)]
    return max((float(np.quantile(each, 1 - WORST)) for each in own if len(each) >= OF_PACKAGE), default=-np.inf)


def _quantile(values: np.ndarray, worth: np.ndarray, share: float) -> float:
    order = np.argsort(values)
    total = np.cumsum(worth[order])
    return float(values[order[np.searchsorted(total, share * total[-1])]])


def _tails(sums: np.ndarray, made: Measures) -> np.ndarray:
    """[5, 19] the share of the clean texts of a group that reach each score of `GRID`."""
    worth, group = made.worth(np.ones(len(sums), bool)), groups(made.measured)
    found = np.zeros((GROUPS, len(GRID)))
    for own in range(GROUPS):
        asked = made.clean & (group == own)
        reached = sums[asked][:, None] >= np.log(GRID / (1 - GRID))
        found[own] = worth[asked] @ reached / worth[asked].sum()
    return found


def usual(measured: Measured, clean: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """[4, M + 1] medians and scales of clean texts by kind: from the median to the 95th percentile, by 1.645."""
    values = np.c_[measured.values, measured.values[:, list(COLUMNS).index("compressed")]]
    middle, scale = np.zeros((len(KINDS), len(COLUMNS))), np.ones((len(KINDS), len(COLUMNS)))
    for kind in range(len(KINDS)):
        own = values[(measured.kind == kind) & clean]
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
"""What each measure counts at least in what a text looks like."""


def weights(parts: np.ndarray, noisy: np.ndarray, kind: np.ndarray, worth: np.ndarray) -> np.ndarray:
    """[2, M + 1] weights, none below 0, of each measure by itself: a logistic regression.

    parts: [N, M + 1] surprises. noisy: [N]. kind: [N]. worth: [N] of each text in the fit.
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
    return weight.reshape(2, -1)

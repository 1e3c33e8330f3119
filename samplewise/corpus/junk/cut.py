"""Which junk score to cut a corpus at: how many texts reach one, beside how many clean texts of their kinds do."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from samplewise.corpus.junk.model import GRID, Model
from samplewise.corpus.junk.score import BORDER

MOST = 0.04
"""Share of the clean texts that a cut may be expected to leave out."""


@dataclass(frozen=True)
class Cut:
    """border: a junk score. reached: share of the texts that reach it. clean: share of clean texts expected to.
    junk: share of all texts that is more than clean text would be, at any score: the least that is junk.
    """

    border: float
    reached: float
    clean: float
    junk: float

    @property
    def mistaken(self) -> float:
        """Share of the texts that reach the border which are expected to be clean."""
        return min(1.0, (1 - self.junk) * self.clean / self.reached) if self.reached else 1.0


def best_cut(score: np.ndarray, group: np.ndarray, known: Model) -> Cut:
    """Where most more junk than clean text is left out, at no more than `MOST` of the clean.

    score: [N] nan for what is not judged. group: [N] of `score.groups`. Both of texts drawn at random.
    """
    judged = ~np.isnan(score)
    if not judged.any():
        return Cut(BORDER, 0.0, 0.0, 0.0)
    reached = (score[judged][:, None] >= GRID).mean(0)
    clean = known.tail[group[judged]].mean(0)
    junk = max(0.0, float(((reached - clean) / (1 - clean)).max()))
    gain = np.where(clean <= MOST, reached - 2 * (1 - junk) * clean, -np.inf)
    place = int(gain.argmax())
    return Cut(float(GRID[place]), float(reached[place]), float(clean[place]), junk)

"""One number a text, the junk score, and what it is for: which measures are how far beyond clean text of its kind."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from samplewise.corpus.junk.measures import KINDS, NAMES, Measured, measure
from samplewise.corpus.junk.model import Model, model

BORDER = 0.5
"""A text of this junk score or more is called junk: about one clean text in a hundred reaches it."""
LEAST = 60
"""Characters below which a text is too short to judge: its score is nan."""
FAR = 2.0
"""Scales beyond which a measure counts more."""
MOST = 8.0
"""Scales beyond which a measure counts no more."""
LOOKS = {
    "garbled": "garbled", "garbled part": "garbled", "unknown words": "unknown words", "order 1": "shuffled words",
    "order 2": "shuffled words", "order 3": "shuffled words", "languages": "mixed languages",
    "compressed": "repetitive", "repeated": "repetitive", "encoded": "encoded", "markup": "markup",
    "symbols": "symbols", "digits": "digits",
    "strange": "wrong characters", "mixed words": "wrong characters", "short lines": "page frame",
    "phrases": "page frame", "incompressible": "encoded",
}  # fmt: skip
"""What a text looks like that a measure finds."""
WEAK = ("seam", "backwards")
"""Measures that move the score of a text below the border, and never across it."""
NEAR = 1e-3
COLUMNS = (*NAMES, "incompressible")


@dataclass(frozen=True)
class Junk:
    """score: [N] from 0 to 1, nan for texts too short to judge. looks: of each text that reaches `BORDER`, what it
    looks
    like, the plainest first; of others, nothing. measured: what it is made of.
    """

    score: np.ndarray
    looks: list[tuple[str, ...]]
    measured: Measured

    @property
    def found(self) -> np.ndarray:
        """[N] whether each text is called junk."""
        return np.nan_to_num(self.score) >= BORDER


def judge_texts(texts: Sequence[str], known: Model | None = None) -> Junk:
    """The junk score of every text, the same whatever other texts there are."""
    known = known or model()
    measured = measure(texts, known)
    beyond = surprises(measured, known)
    parts = beyond * known.weight[0] + np.maximum(beyond - FAR, 0) * known.weight[1]
    weak = np.isin(COLUMNS, WEAK)
    sums = parts[:, ~weak].sum(1) - known.border[measured.kind]
    # weak measures rank what is not junk, and call nothing so
    sums = np.where(sums < 0, np.minimum(sums + parts[:, weak].sum(1), -NEAR), sums)
    score = 1 / (1 + np.exp(-np.clip(sums, -30, 30)))
    short = np.array([len(text.strip()) < LEAST for text in texts], bool)
    score[short] = np.nan
    looks = [_looks(own) if value >= BORDER else () for own, value in zip(parts, score, strict=True)]
    return Junk(score, looks, measured)


def surprises(measured: Measured, known: Model) -> np.ndarray:
    """[N, M + 1] scales by which each measure lies beyond its median in clean text of the kind; 0 where it is blind.

    The last column is `compressed` the other way round: text that no one wrote compresses worse than any.
    """
    values = np.c_[measured.values, measured.values[:, NAMES.index("compressed")]]
    signs = np.where(np.array(COLUMNS) == "compressed", -1.0, 1.0)
    beyond = signs * (values - known.usual[measured.kind]) / known.scale[measured.kind]
    return np.clip(np.nan_to_num(beyond), -2.0, MOST)


def _looks(parts: np.ndarray) -> tuple[str, ...]:
    """What the largest parts of a score stand for: those at least a third of the largest."""
    found: dict[str, float] = {}
    for name, part in zip(COLUMNS, parts, strict=True):
        if name in LOOKS:
            found[LOOKS[name]] = found.get(LOOKS[name], 0.0) + part
    most = max(found.values())
    return tuple(
        name for name, part in sorted(found.items(), key=lambda pair: -pair[1]) if part >= most / 3 and part > 0
    )


assert len(KINDS) == 4, "the border of each is in the model"

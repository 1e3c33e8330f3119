"""One number a text, the junk score, and what it is for: which measures are how far beyond clean text of its kind."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from samplewise.corpus.junk.measures import KINDS, NAMES, TWO_SIDED, Measured, measure
from samplewise.corpus.junk.model import Model, model
from samplewise.corpus.junk.trees import Trees

BORDER = 0.5
"""A text of this junk score or more is called junk: about one clean text in fifty reaches it."""
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
"""Measures that move the scores below 0.05, and none across it."""
UNSPACED = len(KINDS)
"""A group of texts beside the kinds: most habits of words say nothing of them."""
GROUPS = len(KINDS) + 1
BANDS = 250, 450
"""Characters, white space counted once, at which another border begins: of short texts less can be said."""
ALONE = 0.3
"""What each measure by itself counts beside the trees: it still counts where they have seen nothing."""
LOW = -2.95
"""Below a score of 0.05, the least of `model.GRID`."""
COLUMNS = (*NAMES, "incompressible")
IS_WEAK = np.isin(COLUMNS, WEAK)


UNLIKE = "unlike clean text"
"""What a text looks like that its measures mark together, and none alone."""


@dataclass(frozen=True)
class Junk:
    """score: [N] from 0 to 1, nan for texts too short to judge. parts: [N, M + 1] what each measure by itself adds.
    measured: what the score is made of.
    """

    score: np.ndarray
    parts: np.ndarray
    measured: Measured

    @property
    def found(self) -> np.ndarray:
        """[N] whether each text is called junk."""
        return np.nan_to_num(self.score) >= BORDER

    @property
    def looks(self) -> list[tuple[str, ...]]:
        """What each text looks like that reaches `BORDER`, the plainest first; of others, nothing."""
        return self.looks_from(BORDER)

    def looks_from(self, border: float) -> list[tuple[str, ...]]:
        """What each text looks like that reaches a border."""
        return [_looks(own) if value >= border else () for own, value in zip(self.parts, self.score, strict=True)]


def judge_texts(texts: Sequence[str], known: Model | None = None) -> Junk:
    """The junk score of every text, the same whatever other texts there are."""
    known = known or model()
    measured = measure(texts, known)
    parts = parts_of(measured, known)
    sums = summed(measured, parts, known.trees) - borders(measured, known.border)
    # weak measures rank what reaches no border, and take nothing across one
    sums = np.where(sums < LOW, np.minimum(sums + parts[:, IS_WEAK].sum(1), LOW), sums)
    score = 1 / (1 + np.exp(-np.clip(sums, -30, 30)))
    score[[len(text.strip()) < LEAST for text in texts]] = np.nan
    return Junk(score, parts, measured)


def parts_of(measured: Measured, known: Model) -> np.ndarray:
    """[N, M + 1] what each measure adds by itself."""
    beyond = surprises(measured, known)
    return beyond * known.weight[0] + np.maximum(beyond - FAR, 0) * known.weight[1]


def summed(measured: Measured, parts: np.ndarray, trees: Trees) -> np.ndarray:
    """[N] what the trees make of all measures, and a share of what each adds by itself."""
    return trees.sums(rows(measured)) + ALONE * parts[:, ~IS_WEAK].sum(1)


def rows(measured: Measured) -> np.ndarray:
    """[N, columns] what the trees ask for: all measures but the weak ones, and the kind of text."""
    return np.c_[measured.values[:, ~IS_WEAK[:-1]], measured.habits, np.eye(len(KINDS))[measured.kind]]


def groups(measured: Measured) -> np.ndarray:
    """[N] the kind of each text, or `UNSPACED` for those in other letters than Latin ones and without spaces between
    words: Chinese, Japanese, Thai.
    """
    spaces, foreign = (measured.habits[:, TWO_SIDED.index(name)] for name in ("spaces", "foreign letters"))
    return np.where((measured.kind == 1) & (spaces < 0.08) & (foreign > 0.5), UNSPACED, measured.kind)


def borders(measured: Measured, border: np.ndarray) -> np.ndarray:
    """[N] the sum that few clean texts of a text's group and length reach. border: [5, bands]."""
    size = 2 ** measured.habits[:, TWO_SIDED.index("size")]
    return border[groups(measured), np.digitize(size, BANDS)]


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
    ) or (UNLIKE,)


assert len(KINDS) == 4, "the border of each is in the model"

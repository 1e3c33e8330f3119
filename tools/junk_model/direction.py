"""What tells the order of sentences: fitted on documents of both directions, as many of every source."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

import numpy as np

from samplewise.corpus.junk.coherence import sentences_of, turned

WORDS, DOCUMENTS, SHRINK, STEPS = 300, 900, 0.02, 400


def direction(texts: Sequence[tuple[str, str]]) -> tuple[dict[str, int], np.ndarray]:
    """(place of each word, weights) for `coherence.backwards`. texts: (source, text)."""
    counts = Counter(word.lower() for _, text in texts for own in sentences_of(text[:800]) for word in own)
    place = {
        word: at for at, (word, _) in enumerate(sorted(counts.items(), key=lambda pair: (-pair[1], pair[0]))[:WORDS])
    }
    rows, worth = [], []
    taken: Counter[str] = Counter()
    for source, text in texts:
        turns = turned(" ".join(text[:600].split()), place) if taken[source] < DOCUMENTS else None
        if turns is not None:
            taken[source] += 1
            rows.append(turns), worth.append(source)
    share = np.array([1 / taken[source] for source in worth])
    return place, _fitted(np.array(rows), share / share.sum())


def _fitted(rows: np.ndarray, share: np.ndarray) -> np.ndarray:
    """Logistic regression without a constant: every document in order, and by symmetry every one turned."""
    weight = np.zeros(rows.shape[1])
    scale = np.sqrt((rows**2).mean(0)) + 0.05
    for _ in range(STEPS):
        chance = 1 / (1 + np.exp(-rows @ weight))
        weight -= (rows.T @ (chance * share) / scale**2 + SHRINK * weight) * 0.5
    return weight

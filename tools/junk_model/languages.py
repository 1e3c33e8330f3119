"""The character model of every language: entries of both halves and of all, and what clean text costs."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence

import numpy as np

from junk_model.sources import Text, half, words
from junk_model.train import WORD_CHARACTERS, entries, pieces, weighted
from samplewise.corpus.junk.letters import SCRIPTS, letters_of

POOLED = "other latin"
"""A language of its own: all in Latin letters, for those that have no model."""
ENGLISH = "en"
CODE = ("python", "c", "web", "latex")
MOST = {ENGLISH: 9_000_000, **dict.fromkeys(CODE, 3_000_000), POOLED: 3_000_000}
KEPT = {ENGLISH: 220_000, **dict.fromkeys(CODE, 32_000), POOLED: 16_000}
"""Runs of each; of other languages as below."""
LARGE, SMALL = 9_000, 4_000
FLOOR = {ENGLISH: 3.0, **dict.fromkeys(CODE, 4.0), POOLED: 3.0}


def grouped(texts: Sequence[Text]) -> dict[str, dict[int, list[str]]]:
    """Texts by language and half, without languages of less than 3,500 characters."""
    found: dict[str, dict[int, list[str]]] = {}
    for text in texts:
        found.setdefault(text.language, {}).setdefault(half(text), []).append(text.text)
    return {name: own for name, own in sorted(found.items())
            if sum(len(text) for part in own.values() for text in part) >= 3500}  # fmt: skip


def script_of(texts: Sequence[str]) -> int:
    """The number of the script of most windows; of another than Latin as soon as it has a fifth: programs' names are
    Latin.
    """
    counts = Counter(letters_of(texts[:200]).script().tolist())
    other = [(count, number) for number, count in counts.items() if number > 1]
    most, number = max(other, default=(0, 1))
    return number if most > sum(counts.values()) / 5 else 1


def languages_of(by: Mapping[str, Mapping[int, Sequence[str]]]) -> tuple[list[str], np.ndarray]:
    """(names, scripts); the pooled one last."""
    names = list(by)
    script = [script_of([text for part in by[name].values() for text in part]) for name in names]
    return [*names, POOLED], np.array([*script, SCRIPTS.index("latin")])


def entries_of(name: str, texts: Sequence[str], folder) -> list[tuple[np.ndarray, ...]]:
    """The entries of a language from its texts and, where there is one, its list of words."""
    most = MOST.get(name, 900_000)
    known = dict(sorted(words(folder, name), key=lambda pair: -pair[1])[: 160_000 if name == ENGLISH else 30_000])
    worth = WORD_CHARACTERS.get(name, 1e6)
    own = pieces(texts, most) if texts else []
    large = len(known) > 1000 or sum(map(len, texts)) > 200_000
    hashes, weight = weighted(own, known, worth)
    return entries(hashes, weight, KEPT.get(name, LARGE if large else SMALL), FLOOR.get(name, 2.0 if large else 1.0))


def pooled(by: Mapping[str, Mapping[int, Sequence[str]]], names: Sequence[str], size: int = 40_000) -> list[str]:
    """As much of each of these languages."""
    found: list[str] = []
    for name in names:
        found += pieces([text for part in by[name].values() for text in part], size)
    return found

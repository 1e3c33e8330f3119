"""What the package knows of English words: the list, the classes, their order, and what opens sentences."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence

import numpy as np

from junk_model.train import PIECE
from samplewise.corpus.junk.coherence import sentences_of
from samplewise.corpus.junk.letters import letters_of
from samplewise.corpus.junk.ngrams import keyed, salt
from samplewise.corpus.junk.words import BITS, CLASSES, DISTANCES, ENDINGS, FREQUENT, WORD, English, words_of

LISTED = 70_000
SMOOTH = 20.0
"""Pairs that every pair of classes counts as, as often as chance has it."""


def known_words(listed: Mapping[str, float], texts: Sequence[str]) -> dict[str, float]:
    """Share of all words, parts of those with an apostrophe by themselves, names apart; with the texts' own frequent
    ones.
    """
    found: Counter[str] = Counter()
    for word, share in listed.items():
        for part in word.replace("’", "'").split("'"):
            if part.isalpha():
                found[part] += share
    seen = Counter(word for text in texts for word in text.split() if word.isalpha() and word.islower())
    total = sum(seen.values())
    for word, count in seen.items():
        if count >= 8 and word not in found:
            found[word] = count / total
    return dict(sorted(found.items(), key=lambda pair: (-pair[1], pair[0]))[:LISTED])


def word_entries(known: Mapping[str, float]) -> tuple[np.ndarray, np.ndarray]:
    """(keys, values) of the table."""
    code = _codes(list(known))
    bits = -np.log2(np.array(list(known.values())))
    return keyed(code, salt(0, WORD)), np.clip(np.round(bits * BITS), 0, 254).astype(np.uint8)


def _codes(words: Sequence[str]) -> np.ndarray:
    found = words_of(letters_of(words))
    assert len(found.code) == len(words)
    return found.code


def english_model(known: Mapping[str, float], texts: Sequence[str]) -> English:
    """Classes from the list, their order from the texts."""
    frequent = list(known)[:FREQUENT]
    codes = _codes(frequent)
    place = np.argsort(codes)
    endings = np.full(27 * 27, FREQUENT + ENDINGS - 1, np.int64)
    rest = words_of(letters_of(list(known)[FREQUENT:20_000]))
    shares = np.array(list(known.values()))[FREQUENT:20_000]
    worth = np.bincount(rest.ending, shares, 27 * 27)
    endings[np.argsort(-worth, kind="stable")[: ENDINGS - 1]] = FREQUENT + np.arange(ENDINGS - 1)
    model = English(codes[place], place, endings, np.zeros((DISTANCES, CLASSES, CLASSES), np.int8))
    counts = np.zeros((DISTANCES, CLASSES, CLASSES))
    cut = [text[i : i + PIECE] for text in texts for i in range(0, len(text), PIECE)]
    for start in range(0, len(cut), 2000):
        letters = letters_of(cut[start : start + 2000])
        words = words_of(letters)
        own = model.classes(words, letters.codes)
        for distance in range(1, DISTANCES + 1):
            same = words.text[distance:] == words.text[:-distance]
            pairs = own[:-distance][same] * CLASSES + own[distance:][same]
            counts[distance - 1] += np.bincount(pairs, minlength=CLASSES**2).reshape(CLASSES, CLASSES)
    return English(model.frequent, model.rank, model.endings, _likelier(counts))


def _likelier(counts: np.ndarray) -> np.ndarray:
    total = counts.sum((1, 2), keepdims=True)
    chance = counts.sum(2, keepdims=True) * counts.sum(1, keepdims=True) / np.maximum(total, 1)
    return np.clip(np.round(16 * np.log2((counts + SMOOTH) / (chance + SMOOTH))), -127, 127).astype(np.int8)


def openings(texts: Sequence[str], most: int = 250) -> dict[str, float]:
    """Bits by which a word opens a later sentence of a document rather than its first."""
    first, later = Counter(), Counter()
    for text in texts:
        own = sentences_of(text[:1500])
        if len(own) >= 3:
            first[own[0][0].lower()] += 1
            later.update(sentence[0].lower() for sentence in own[1:])
    total, rest = sum(first.values()), sum(later.values())
    asked = [word for word, _ in later.most_common(most)]
    found = {word: np.log2((later[word] + 3) / rest / ((first[word] + 3) / total)) for word in asked}
    return {word: round(float(np.clip(value, -4, 4)), 2) for word, value in sorted(found.items())}

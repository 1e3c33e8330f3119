"""Whether a text is one text, in its order: words that come again across its middle, and how its sentences begin.

Weak measures both: a hundred words say little of what they are about. They move a ranking, and mark no text alone.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from itertools import pairwise

import numpy as np

from samplewise.corpus.junk.letters import LIMIT
from samplewise.corpus.junk.ngrams import Table, keyed, salt
from samplewise.corpus.junk.words import BITS, FREQUENT, WORD, Words

MIN_WORDS = 40
MIDDLE = 0.2, 0.8
"""Between these shares of the words a seam is looked for."""
UNUSUAL = 20.0
"""Bits of a word that no list has."""
COMMON = 9.0
"""Bits up to which a word says nothing of a subject."""
_SENTENCE = re.compile(r"(?<=[.!?])[\"')\]]*\s+(?=[\"'(\[]*[A-Z0-9])|\n+")
_WORD = re.compile(r"[A-Za-z']+")


def seams(words: Words, classes: np.ndarray, english: np.ndarray, table: Table, count: int) -> np.ndarray:
    """[count] how little holds a text together where least does: 0 where each place is bridged as often as chance
    would have it, towards 1 where one is not; nan for texts of few words.
    """
    found = np.full(count, np.nan)
    asked = np.flatnonzero(words.word & english & (words.length > 3) & (classes >= FREQUENT))
    value = table.find(keyed(words.code[asked], salt(0, WORD)))
    weight = np.where(value == 255, UNUSUAL, value / BITS) - COMMON
    asked, weight = asked[weight > 0], weight[weight > 0]
    text = words.text[asked]
    bounds = np.searchsorted(text, np.arange(count + 1))
    for own in np.flatnonzero(np.diff(bounds) >= MIN_WORDS // 2):
        inside = slice(bounds[own], bounds[own + 1])
        found[own] = _seam(words.stem[asked[inside]], weight[inside])
    return found


def _seam(stems: np.ndarray, weight: np.ndarray) -> float:
    """Of one text: the least bridged place. Bridges are the stems that stand on both sides of it."""
    size = len(stems)
    _, group = np.unique(stems, return_inverse=True)
    first, last, mass = np.full(size, size), np.full(size, -1), np.zeros(size)
    place = np.arange(size)
    np.minimum.at(first, group, place)
    np.maximum.at(last, group, place)
    np.maximum.at(mass, group, weight)
    many = last > first
    over = np.zeros(size + 1)
    np.add.at(over, first[many], mass[many])
    np.add.at(over, last[many], -mass[many])
    bridged = np.cumsum(over)[:-1]
    total = mass[many].sum() + 12.0
    low, high = (int(share * size) for share in MIDDLE)
    return 1.0 - float(bridged[low : max(high, low + 1)].min()) / total


def sentences_of(text: str) -> list[list[str]]:
    """The words of each sentence."""
    return [own for own in (_WORD.findall(part) for part in _SENTENCE.split(text)) if len(own) >= 3]


STRUCTURE = 5
"""Measures of `turned` beside its words."""
ARTICLES = {"the": 1, "this": 1, "these": 1, "that": 1, "its": 1, "their": 1, "a": 0, "an": 0}
"""1 for those of known things, 0 for those of new ones."""
OPEN = ("he", "she", "it", "they", "his", "her", "this", "these", "that", "but", "and", "so", "however", "also")


def turned(text: str, place: Mapping[str, int]) -> np.ndarray | None:
    """[2 V + 5] what changes its sign when the sentences of a text are read from the last to the first; None for fewer
    than three.

    place: of V words, whose positions among the sentences are averaged, as first words and as others, from −1 in the
    first sentence to 1 in the last. Then: lengths; articles before known words and before new; a name in short that
    stood in full before; a word at the very beginning that points back.
    """
    own = sentences_of(text)
    if len(own) < 3:
        return None
    found = np.zeros(2 * len(place) + STRUCTURE)
    low = [[word.lower() for word in sentence] for sentence in own]
    for at, words in zip(np.linspace(-1, 1, len(own)), low, strict=True):
        if words[0] in place:
            found[place[words[0]]] += at
        for word in set(words[1:]) & place.keys():
            found[len(place) + place[word]] += at / 2
        found[-1] += at * np.log(len(words))
    found[-STRUCTURE:-1] = _structure(own, low) - _structure(own[::-1], low[::-1])
    return found


def _structure(sentences: Sequence[Sequence[str]], low: Sequence[Sequence[str]]) -> np.ndarray:
    seen: set[str] = set()
    long: set[str] = set()
    known = new = short = 0
    for sentence, words in zip(sentences, low, strict=True):
        for article, word in pairwise(words):
            if article in ARTICLES and len(word) > 3 and word in seen:
                known += ARTICLES[article]
                new += not ARTICLES[article]
        for name in _names(sentence):
            short += len(name) == 1 and name[0] in long
            long.update(name if len(name) > 1 else ())
        seen.update(words)
    return np.array([known, new, short, float(low[0][0] in OPEN)])


def _names(sentence: Sequence[str]) -> list[list[str]]:
    """Runs of capitalized words, the sentence's first word apart."""
    found: list[list[str]] = [[]]
    for word in sentence[1:]:
        if "A" <= word[0] <= "Z" and len(word) > 1:
            found[-1].append(word)
        elif found[-1]:
            found.append([])
    return [name for name in found if name]


def backwards(texts: Sequence[str], asked: np.ndarray, place: Mapping[str, int], weight: np.ndarray) -> np.ndarray:
    """[N] how much more the sentences of each text asked look in order from the last to the first; nan for the others,
    and for few sentences.
    """
    found = np.full(len(texts), np.nan)
    for own in np.flatnonzero(asked).tolist():
        turns = turned(texts[own][:LIMIT], place)
        found[own] = np.nan if turns is None else turns @ weight
    return found

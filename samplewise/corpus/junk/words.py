"""What the words of English text say: how many are in no list, whether their order is that of sentences, and whether
the second half has words of the first.

Words are hashed, classed and counted in arrays. The two hundred most frequent are classes of their own; of the others
the last two letters tell the part of speech well enough to tell sentences from the same words shuffled.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from samplewise.corpus.junk.letters import DIGIT, SIZE, SPACE, Letters, characters
from samplewise.corpus.junk.ngrams import Table, keyed, salt

FREQUENT, ENDINGS = 200, 48
"""Classes: of frequent words, and of endings of the others."""
NUMBER, NAME, CAPITAL, COMMA, STOP, STOPPED, OTHER_MARK = range(FREQUENT + ENDINGS, FREQUENT + ENDINGS + 7)
"""Further ones: numbers, capitalized words, frequent words capitalized within a sentence, commas, full stops before a
capital and before none, other signs.
"""
CLASSES = 256
DISTANCES = 3
WORD = 7
"""The length that tells words from runs of characters in the table."""
BITS = 8.0
"""Of a stored number to the bit, for words."""
_POWER = np.cumprod(np.full(64, 0x9E3779B97F4A7C15, np.uint64), dtype=np.uint64)


@dataclass(frozen=True)
class Words:
    """Of all texts in a row: text: [N] whose each is; code: [N] hash of the word, or of the sign; first: [N] place of
    its
    first character; length: [N] characters; capital: [N] whether it begins with a capital; word: [N], no sign.
    stem: [N] hash of the first five letters. ending: [N] of the last two.
    """

    text: np.ndarray
    code: np.ndarray
    stem: np.ndarray
    ending: np.ndarray
    first: np.ndarray
    length: np.ndarray
    capital: np.ndarray
    word: np.ndarray


def words_of(letters: Letters) -> Words:
    """Words, numbers and signs, each of which ends where the kind of character changes; a sign is one character."""
    codes = letters.codes
    kind = np.where(characters().letter[np.minimum(codes, SIZE - 1)], 1, np.where(codes == DIGIT, 2, 3))
    kind = np.where(codes == SPACE, 0, kind)
    start = (kind > 0) & (np.r_[True, kind[1:] != kind[:-1]] | (kind == 3))
    first = np.flatnonzero(start)
    if not len(first):
        none = np.zeros(0, np.int64)
        return Words(
            text=none, code=none.astype(np.uint32), stem=none.astype(np.uint32), ending=none, first=none, length=none,
            capital=none > 0, word=none > 0,
        )  # fmt: skip
    own = np.cumsum(start) - 1
    inside = np.flatnonzero(kind > 0)
    owner = own[inside]
    rank = inside - first[owner]
    length = np.bincount(owner)
    part = (codes[inside].astype(np.uint64) + np.uint64(1)) * _POWER[np.minimum(rank, 63)]
    early = np.where(rank < 5, part, np.uint64(0))
    heads = np.cumsum(length) - length
    whole, stem = (np.add.reduceat(each, heads) for each in (part, early))
    last = first + length - 1
    ending = np.where(length > 2, _letter(codes[last - 1]) * 27 + _letter(codes[last]), 0)
    return Words(
        text=letters.text[first], code=_low(whole), stem=_low(stem), ending=ending, first=first, length=length,
        capital=letters.capital[first], word=kind[first] == 1,
    )  # fmt: skip


def _low(hashes: np.ndarray) -> np.ndarray:
    return (hashes >> np.uint64(32)).astype(np.uint32)


def _letter(codes: np.ndarray) -> np.ndarray:
    return np.where((codes >= 97) & (codes <= 122), codes - 96, 0).astype(np.int64)


@dataclass(frozen=True)
class English:
    """frequent: [200] sorted hashes of the most frequent words; rank: [200] their classes. endings: [27 · 27] classes.
    order: [3, 256, 256] sixteenths of a bit by which a pair of classes at a distance of 1, 2, 3 is likelier than
    chance.
    """

    frequent: np.ndarray
    rank: np.ndarray
    endings: np.ndarray
    order: np.ndarray

    def classes(self, words: Words, codes: np.ndarray) -> np.ndarray:
        """[N] the class of each word or sign."""
        place = np.minimum(np.searchsorted(self.frequent, words.code), len(self.frequent) - 1)
        frequent = (self.frequent[place] == words.code) & words.word
        sign = codes[words.first]
        following = np.r_[words.capital[1:], True]
        stop = np.isin(sign, [46, 33, 63]) & ~words.word
        found = np.where(frequent, self.rank[place], self.endings[words.ending])
        found = np.where(words.capital & ~frequent, NAME, found)
        after = np.r_[True, stop[:-1]] | np.r_[True, words.text[1:] != words.text[:-1]]
        found = np.where(words.capital & frequent & ~after, CAPITAL, found)
        found = np.where(~words.word, OTHER_MARK, found)
        found = np.where(sign == DIGIT, NUMBER, found)
        found = np.where(np.isin(sign, [44, 59, 58]), COMMA, found)
        return np.where(stop, np.where(following, STOP, STOPPED), found)


def order(words: Words, classes: np.ndarray, english: np.ndarray, model: English, count: int) -> np.ndarray:
    """[count, 3] bits a pair of words at a distance of 1, 2, 3; nan where a text has few English ones.

    english: [N] whether a word stands in an English window.
    """
    found = np.full((count, DISTANCES), np.nan)
    for distance in range(1, DISTANCES + 1):
        before, after = classes[:-distance], classes[distance:]
        fine = (words.text[:-distance] == words.text[distance:]) & english[:-distance] & english[distance:]
        value = model.order[distance - 1][before[fine], after[fine]] / 16.0
        pairs = np.bincount(words.text[:-distance][fine], minlength=count)
        total = np.bincount(words.text[:-distance][fine], value, count)
        found[:, distance - 1] = np.where(pairs >= MIN_PAIRS, total / np.maximum(pairs, 1), np.nan)
    return found


MIN_PAIRS = 25
"""Pairs of words below which nothing is said of their order."""


def unknown(words: Words, english: np.ndarray, table: Table, count: int) -> np.ndarray:
    """[count] the share of English words of three letters and more, names left out, that no list has; nan for few."""
    asked = words.word & english & ~words.capital & (words.length > 2)
    value = table.find(keyed(words.code[asked], salt(0, WORD)))
    every = np.bincount(words.text[asked], minlength=count)
    missing = np.bincount(words.text[asked], value == 255, count)
    return np.where(every >= MIN_PAIRS, missing / np.maximum(every, 1), np.nan)

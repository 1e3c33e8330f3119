"""Counts of character runs, their probabilities, and the table of those worth keeping."""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).parents[2]))

from samplewise.corpus.junk.letters import letters_of
from samplewise.corpus.junk.ngrams import ORDER, STEP, Table, keyed, mark_of, places, runs, salt

PIECE = 1000
"""Characters of the pieces that a long document is cut into."""
WORD_CHARACTERS = {"en": 8e6}
"""How many characters of text a list of words counts as; 1.5 million for other languages."""


def pieces(texts: Sequence[str], most: int) -> list[str]:
    """The documents in pieces, up to `most` characters, evenly over all of them."""
    every = [text[i : i + PIECE] for text in texts for i in range(0, len(text), PIECE)]
    return every[:: max(1, -(-sum(map(len, every)) // most))]


def weighted(texts: Sequence[str], words: Mapping[str, float], worth: float) -> tuple[list[np.ndarray], np.ndarray]:
    """(runs, weight) at every place of the texts, each of weight 1, and of the words, by their share of all."""
    here = letters_of(texts)
    weight = (here.text >= 0).astype(np.float32)
    found = runs(here.codes)
    if not words:
        return found, weight
    spelled = letters_of([word + " _" for word in words])
    total = sum(share * len(word) for word, share in words.items())
    shares = np.array(list(words.values())) * worth / total
    own = np.where(spelled.text >= 0, shares[spelled.text], 0).astype(np.float32)
    own[spelled.codes == ord("_")] = 0
    return [np.r_[a, b] for a, b in zip(found, runs(spelled.codes), strict=True)], np.r_[weight, own]


def entries(hashes: Sequence[np.ndarray], weight: np.ndarray, keep: int, floor: float) -> list[tuple[np.ndarray, ...]]:
    """By length: (hash, bits, worth) of the runs worth most; those of one and two characters first.

    Probabilities by absolute discounting, interpolated. worth: bits that the longer context saves over the texts.
    """
    every, before = [], None
    for length in range(1, ORDER + 1):
        own, first, back = np.unique(hashes[length - 1][weight > 0], return_index=True, return_inverse=True)
        count = np.bincount(back, weight[weight > 0])
        if length == 1:
            chance, worth = count / count.sum(), np.full(len(own), np.inf)
        else:
            context = np.r_[np.uint32(0), hashes[length - 2][:-1]][weight > 0][first]
            shorter = hashes[length - 2][weight > 0][first]
            chance, base = _interpolated(count, context, shorter, before)
            worth = count * np.abs(np.log2(chance / base)) * (1e6 if length == 2 else 1)
        before = own, chance
        fine = count >= (floor if length > 2 else floor / 4)
        every.append((own[fine], -np.log2(chance[fine]), worth[fine]))
    border = np.sort(np.concatenate([worth for _, _, worth in every]))[::-1]
    least = border[keep] if len(border) > keep else -1.0
    return [(own[worth > least], cost[worth > least], worth[worth > least]) for own, cost, worth in every]


def _interpolated(count, context, shorter, before):
    _, group = np.unique(context, return_inverse=True)
    total = np.bincount(group, count)
    base = before[1][np.searchsorted(before[0], shorter)]
    discount = np.minimum(0.75, 0.5 * count)
    spared = np.bincount(group, discount)
    return (count - discount + spared[group] * base) / total[group], base


def table_of(found: Sequence[tuple[int, list[tuple[np.ndarray, ...]]]], size: int,
             extra: Sequence[tuple[np.ndarray, np.ndarray]] = ()) -> Table:  # fmt: skip
    """The table; where there is no room, what is worth less for its language stays out.

    found: (language, entries). extra: (keys, values) that go in first.
    """
    keys, values, ranks = [], [], []
    for own, value in extra:
        keys.append(own), values.append(value), ranks.append(np.full(len(own), -1.0))
    for language, parts in found:
        worth = np.concatenate([part[2] for part in parts])
        keys += [keyed(own, salt(language, length + 1)) for length, (own, _, _) in enumerate(parts)]
        values += [np.clip(np.round(cost * STEP), 0, 254).astype(np.uint8) for _, cost, _ in parts]
        rank = np.empty(len(worth))
        rank[np.argsort(-worth, kind="stable")] = np.arange(len(worth)) / len(worth)
        ranks.append(rank)
    key, value = np.concatenate(keys), np.concatenate(values)
    order = np.lexsort((key, np.concatenate(ranks)))
    return _placed(key[order], value[order], size)


def _placed(keys: np.ndarray, values: np.ndarray, size: int) -> Table:
    marks, held = np.zeros(size, np.uint8), np.zeros(size, np.uint8)
    own = mark_of(keys)
    for lane in places(keys, size):
        left = np.flatnonzero(own > 0)
        where, first = np.unique(lane[left], return_index=True)
        taken = left[first[marks[where] == 0]]
        marks[lane[taken]], held[lane[taken]] = own[taken], values[taken]
        own = own.copy()
        own[taken] = 0
    return Table(marks, held)

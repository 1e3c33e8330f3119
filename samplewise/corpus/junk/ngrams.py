"""A small model of the characters of a hundred languages and of code: how many bits a text costs under each.

Runs of one to five characters, each with the bits of its last one after the others, lie in one hash table of two bytes
an entry. A run that is not there is charged as the longest shorter one that is, with a penalty for every character
that its context was known for.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

ORDER = 5
"""Characters of the longest runs."""
STEP = 12.0
"""Of a stored number, to the bit."""
PENALTY = 1.6
"""Bits for each character of a context that was known, and known to be followed by others."""
UNKNOWN = 18.0
"""Bits of a character that the language is not known to have."""
_MIX = np.uint32(0x9E3779B1)
_ODD = np.uint32(0x85EBCA6B)


def runs(codes: np.ndarray, order: int = ORDER) -> list[np.ndarray]:
    """[order] arrays [K] uint32: the hash of the run of 1, 2, … characters that ends at each place."""
    found = []
    state = np.zeros(len(codes), np.uint32)
    for length in range(order):
        before = np.full(len(codes), 32, np.uint32)
        before[length:] = codes[: len(codes) - length]
        state = (state ^ (before + np.uint32(length * 7919))) * _MIX
        state ^= state >> np.uint32(15)
        found.append(state)
    return found


def keyed(hashes: np.ndarray, salt: np.ndarray) -> np.ndarray:
    """The key of a run in a language: salt is the language's number and the run's length."""
    key = (hashes ^ (salt * _ODD)) * _MIX
    return key ^ (key >> np.uint32(13))


@dataclass(frozen=True)
class Table:
    """marks, values: [S] uint8. A key stands at one of two places, known by 8 of its bits; 0 bits: nothing there."""

    marks: np.ndarray
    values: np.ndarray

    def find(self, keys: np.ndarray) -> np.ndarray:
        """uint8 for each key: its value, or 255 where it is not there."""
        mark = mark_of(keys)
        found = np.full(keys.shape, 255, np.uint8)
        for place in places(keys, len(self.marks))[::-1]:
            here = self.marks[place] == mark
            found[here] = self.values[place][here]
        return found


def mark_of(keys: np.ndarray) -> np.ndarray:
    """The 8 bits that a place is told by; never 0."""
    return np.maximum((keys * np.uint32(0xC2B2AE35)) >> np.uint32(24), 1).astype(np.uint8)


def places(keys: np.ndarray, size: int) -> tuple[np.ndarray, np.ndarray]:
    """The two places of each key in a table of `size`."""
    first = (keys.astype(np.uint64) * np.uint64(size)) >> np.uint64(32)
    second = ((keys * np.uint32(0x27D4EB2F)).astype(np.uint64) * np.uint64(size)) >> np.uint64(32)
    return first.astype(np.int64), second.astype(np.int64)


def salt(language: int | np.ndarray, length: int) -> np.ndarray:
    """[1] or one of each language: what separates its runs of `length` characters from all others."""
    return np.atleast_1d(np.asarray(language, np.uint32)) * np.uint32(8) + np.uint32(length)


def bits(table: Table, hashes: list[np.ndarray], language: int | np.ndarray, order: int = ORDER) -> np.ndarray:
    """[K] bits of each character under a language, or under one of its own each.

    hashes: of `runs`. Places must be in the order of the text: the context known is that of the place before.
    """
    size = len(hashes[0])
    cost, known = np.full(size, UNKNOWN, np.float32), np.zeros(size, np.int8)
    for length in range(1, order + 1):
        value = table.find(keyed(hashes[length - 1], salt(language, length)))
        here = value < 255
        cost[here] = value[here] / np.float32(STEP)
        known[here] = length
    context = np.minimum(np.r_[np.int8(0), known[:-1]] + 1, order)
    return cost + np.float32(PENALTY) * np.maximum(context - known, 0)

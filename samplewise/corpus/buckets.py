"""Which texts of a corpus may be duplicates: those that share all of their text, or a band of their minima.

228 bytes a text in memory, whatever its length; the texts themselves are not held.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from samplewise.data.sketch import BANDS, Sketch

CHUNK = 2**12


@dataclass(frozen=True)
class Suspects:
    """first: [N] the first text that is the same as each, itself where there is none before it.

    texts: [C] those that share a band with another one, rising. groups: [M] numbers of what they share; those of
    texts[i] are groups[ends[i] : ends[i + 1]].
    """

    first: np.ndarray
    texts: np.ndarray
    ends: np.ndarray
    groups: np.ndarray


class Buckets:
    """Takes texts one after the other, each by its digest and keys."""

    def __init__(self) -> None:
        self.digests: list[np.ndarray] = []
        self.keys: list[np.ndarray] = []
        self.long: list[np.ndarray] = []
        self._digests: list[bytes] = []
        self._keys: list[np.ndarray] = []
        self._none = np.zeros(BANDS, np.uint64)

    def add(self, digest: bytes, sketch: Sketch | None) -> None:
        """A text. sketch: None where only the same text is a duplicate."""
        self._digests.append(digest)
        self._keys.append(self._none if sketch is None or not len(sketch.keys) else sketch.keys)
        if len(self._keys) == CHUNK:
            self._pack()

    def suspects(self) -> Suspects:
        """All that may be duplicates. Nothing can be added after."""
        self._pack()
        first = _first(np.concatenate(self.digests))
        alone = np.flatnonzero((first == np.arange(len(first))) & np.concatenate(self.long))
        texts, groups, start = [np.empty(0, np.uint32)], [np.empty(0, np.uint32)], 0
        for band in range(BANDS):
            members, numbers = _shared(np.concatenate([keys[:, band] for keys in self.keys])[alone])
            texts.append(alone[members].astype(np.uint32))
            groups.append((numbers + start).astype(np.uint32))
            start += int(numbers[-1]) + 1 if len(numbers) else 0
        self.keys.clear()
        every = np.concatenate(texts)
        order = np.argsort(every, kind="stable")
        found, counts = np.unique(every, return_counts=True)
        return Suspects(first, found, np.concatenate([[0], np.cumsum(counts)]), np.concatenate(groups)[order])

    def _pack(self) -> None:
        keys = np.array(self._keys, np.uint64).reshape(-1, BANDS)
        self.digests.append(np.frombuffer(b"".join(self._digests), np.uint64).reshape(-1, 2))
        self.keys.append(keys)
        self.long.append(np.asarray(keys.any(1)))
        self._digests, self._keys = [], []


def _first(digests: np.ndarray) -> np.ndarray:
    """[N] for [N, 2]: the place of the first equal one."""
    order = np.lexsort((digests[:, 0], digests[:, 1]))  # stable: equal ones stay in their order
    ranked = digests[order]
    new = np.ones(len(order), bool)
    new[1:] = (ranked[1:] != ranked[:-1]).any(1)
    first = np.empty(len(order), np.int64)
    first[order] = order[new][np.cumsum(new) - 1]
    return first


def _shared(keys: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """(places of the keys that come more than once, the number of each one's group from 0 on)."""
    order = np.argsort(keys, kind="stable")
    ranked = keys[order]
    same = ranked[1:] == ranked[:-1]
    shared = np.zeros(len(keys), bool)
    shared[1:] |= same
    shared[:-1] |= same
    new = np.ones(len(keys), bool)
    new[1:] = ~same
    return order[shared], np.cumsum(new[shared]) - 1

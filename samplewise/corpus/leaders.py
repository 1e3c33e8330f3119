"""Texts kept so far that later ones may repeat: their minima in memory, their shingles on disk."""

from __future__ import annotations

from tempfile import TemporaryFile

import numpy as np

from samplewise.corpus.buckets import Suspects
from samplewise.data.sketch import BANDS, FULL, ROWS, Sketch, first_like


class Leaders:
    """Those among `Suspects`, as long as a block lasts. limit: the similarity of near-duplicates at least."""

    def __init__(self, suspects: Suspects, limit: float) -> None:
        self.suspects, self.limit = suspects, limit
        self.texts: list[int] = []
        self._minima = np.empty((1024, BANDS * ROWS), np.uint32)
        self._ends = [0]
        self._file = TemporaryFile(prefix="samplewise-")  # noqa: SIM115
        self._members: dict[int, list[int]] = {}

    def __enter__(self) -> Leaders:
        return self

    def __exit__(self, *error: object) -> None:
        self._file.close()

    def like_or_add(self, at: int, own: Sketch) -> tuple[int, float] | None:
        """(the text that a suspect repeats, their similarity), None where there is none: then it is kept.

        at: its place among the suspects, which come in their order.
        """
        groups = self.suspects.groups[self.suspects.ends[at] : self.suspects.ends[at + 1]].tolist()
        candidates = sorted({i for group in groups for i in self._members.get(group, ())})
        if candidates:
            found = first_like(own, self._minima[candidates], lambda i: self._shingles(candidates[i]), self.limit)
            if found is not None:
                return self.texts[candidates[found[0]]], found[1]
        self._add(int(self.suspects.texts[at]), groups, own)
        return None

    def _add(self, text: int, groups: list[int], own: Sketch) -> None:
        number = len(self.texts)
        for group in groups:
            members = self._members.setdefault(group, [])
            if len(members) < FULL:
                members.append(number)
        if number == len(self._minima):
            self._minima = np.concatenate([self._minima, np.empty_like(self._minima)])
        self._minima[number] = own.minima
        self.texts.append(text)
        self._file.seek(0, 2)
        self._file.write(own.shingles.data)
        self._ends.append(self._ends[-1] + own.shingles.nbytes)

    def _shingles(self, number: int) -> np.ndarray:
        self._file.seek(self._ends[number])
        return np.frombuffer(self._file.read(self._ends[number + 1] - self._ends[number]), np.uint64)

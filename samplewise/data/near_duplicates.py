"""Exact and near-duplicates of a corpus in memory: held-out documents must not have been trained on in other words.

Of a corpus on disk: `samplewise.corpus.dedup`, by the same measure.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Generic, Protocol, TypeVar

import numpy as np

from samplewise.data.sketch import FULL, JACCARD, Sketch, WordHashes, digest, first_like, normalize, sketch


class HasText(Protocol):
    """A document, or a conversation."""

    @property
    def text(self) -> str:
        """The whole text to compare."""
        ...


T = TypeVar("T", bound=HasText)


@dataclass(frozen=True)
class Deduplicated(Generic[T]):
    """kept: in the order given; exact, near: the numbers of documents left out as duplicates of a kept one."""

    kept: list[T]
    exact: int
    near: int


def fingerprint(text: str) -> bytes:
    """16 bytes that texts share when they are exact duplicates."""
    return digest(normalize(text))


def deduplicate(documents: Iterable[T]) -> Deduplicated[T]:
    """Leaves out every document that repeats an earlier kept one: the same normalized text, or 5-word shingles with
    a Jaccard similarity of at least 0.8.

    Candidates come from MinHash bands and are then compared exactly, so no unlike pair is ever taken for duplicates;
    a pair just at 0.8 is missed less than once in 10,000. Texts of fewer than 5 words are compared exactly only. The
    same result on every machine. About 2 ms a document of 10 kB, and somewhat more memory than the text again.

    >>> from samplewise.data import Document
    >>> a, b, c = "the cat sat on the mat today " * 9, "The CAT sat on the mat today " * 9, "the cat"
    >>> result = deduplicate(Document(t, "x", i) for i, t in enumerate([a, b, c, c, a + "and slept"]))
    >>> [d.row for d in result.kept], result.exact, result.near
    ([0, 2, 4], 2, 0)
    """
    kept: list[T] = []
    seen: set[bytes] = set()
    index = NearIndex()
    exact = near = 0
    for document in documents:
        text = normalize(document.text)
        name = digest(text)
        if name in seen:
            exact += 1
            continue
        seen.add(name)
        if index.like_or_add(text) is not None:
            near += 1
        else:
            kept.append(document)
    return Deduplicated(kept, exact, near)


def without_copies(documents: Iterable[T], of: Iterable[HasText]) -> Deduplicated[T]:
    """Leaves out every document that repeats one of `of`, by the measure of `deduplicate`; what repeats among the
    documents alone stays.

    >>> from samplewise.data import Document
    >>> a, b = "The cat sat on a mat, saw a bird in the tree and went to sleep in the sun till noon", "a dog"
    >>> documents = [Document(t, "x", i) for i, t in enumerate([b, a.upper(), b, a + " came"])]
    >>> result = without_copies(documents, [Document(a, "y", 0)])
    >>> [d.row for d in result.kept], result.exact, result.near
    ([0, 2], 1, 1)
    """
    names: set[bytes] = set()
    index = NearIndex()
    for text in (normalize(document.text) for document in of):
        names.add(digest(text))
        index.add(text)
    kept: list[T] = []
    exact = near = 0
    known: dict[bytes, bool] = {}  # whether a text, which may come often, is near one of them
    for document in documents:
        text = normalize(document.text)
        name = digest(text)
        if name in names:
            exact += 1
            continue
        if name not in known:
            known[name] = index.like(text) is not None
        if known[name]:
            near += 1
        else:
            kept.append(document)
    return Deduplicated(kept, exact, near)


class NearIndex:
    """Kept texts by their sketches. limit: the similarity of near-duplicates at least."""

    def __init__(self, limit: float = JACCARD) -> None:
        self.limit, self.words = limit, WordHashes()
        self.sketches: list[Sketch] = []
        self.buckets: dict[tuple[int, int], list[int]] = {}

    def like_or_add(self, text: str) -> int | None:
        """The place among the texts added of the first that a normalized text is a near-duplicate of; None if there is
        none: then the text is added. One too short for shingles is like none, and added without any.
        """
        own = sketch(text, self.words)
        found = self._like(own)
        if found is None:
            self._add(own)
        return found

    def like(self, text: str) -> int | None:
        """The place as in `like_or_add`, without adding."""
        return self._like(sketch(text, self.words))

    def add(self, text: str) -> None:
        """Add a text whatever it is like."""
        self._add(sketch(text, self.words))

    def _like(self, own: Sketch) -> int | None:
        candidates = sorted({i for key in enumerate(own.keys.tolist()) for i in self.buckets.get(key, ())})
        if not candidates:
            return None
        minima = np.stack([self.sketches[i].minima for i in candidates])
        found = first_like(own, minima, lambda at: self.sketches[candidates[at]].shingles, self.limit)
        return None if found is None else candidates[found[0]]

    def _add(self, own: Sketch) -> None:
        for key in enumerate(own.keys.tolist()):
            bucket = self.buckets.setdefault(key, [])
            if len(bucket) < FULL:
                bucket.append(len(self.sketches))
        self.sketches.append(own)

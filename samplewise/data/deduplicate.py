"""Exact and near-duplicates of a corpus in memory: held-out documents must not have been trained on in other words."""

from __future__ import annotations

import hashlib
import re
import unicodedata
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Generic, Protocol, TypeVar

import numpy as np

WORDS = 5
JACCARD = 0.8
BANDS, ROWS = 25, 5
"""A pair of Jaccard similarity J becomes a candidate with probability 1 - (1 - J^ROWS)^BANDS: .99995 at 0.8."""
LIKELY = 0.65
"""Share of equal minima below which a candidate is dropped: four standard deviations below 0.8."""

_UNSPACED = "\u0e00-\u0eff\u1780-\u17ff\u3040-\u30ff\u3400-\u9fff"
_WORD = re.compile(f"[{_UNSPACED}]|[^\\W{_UNSPACED}]+")  # Thai, Lao, Khmer, kana, Han: no spaces, a character is a word


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


def normalize(text: str) -> str:
    """What makes two texts the same: NFKC, no case, one space for any white space.

    >>> normalize("A  caf\\u00e9\\r\\n") == normalize("a cafe\\u0301")
    True
    """
    return " ".join(unicodedata.normalize("NFKC", text).casefold().split())


def fingerprint(text: str) -> bytes:
    """16 bytes that texts share when they are exact duplicates."""
    return _digest(normalize(text))


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
        name = _digest(text)
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
        names.add(_digest(text))
        index.add(text)
    kept: list[T] = []
    exact = near = 0
    known: dict[bytes, bool] = {}  # whether a text, which may come often, is near one of them
    for document in documents:
        text = normalize(document.text)
        name = _digest(text)
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
    """Kept texts by their shingles. signatures: [BANDS * ROWS] minima of each; buckets: (band, key) -> texts."""

    def __init__(self) -> None:
        self.words: dict[str, int] = {}
        self.shingles: list[np.ndarray] = []
        self.signatures: list[np.ndarray] = []
        self.buckets: dict[tuple[int, int], list[int]] = {}

    def like_or_add(self, text: str) -> int | None:
        """The place among the texts added of the first that a normalized text is a near-duplicate of; None if there is
        none: then the text is added. One too short for shingles is like none, and added without any.
        """
        sketch = self._sketch(text)
        found = self._like(sketch)
        if found is None:
            self._add(sketch)
        return found

    def like(self, text: str) -> int | None:
        """The place as in `like_or_add`, without adding."""
        return self._like(self._sketch(text))

    def add(self, text: str) -> None:
        """Add a text whatever it is like."""
        self._add(self._sketch(text))

    def _sketch(self, text: str) -> _Sketch:
        own = _shingles(text, self.words)
        if not len(own):
            return _Sketch(own, own, [])
        minima = _minima(own)
        keys = _mix((minima.reshape(BANDS, ROWS) * _MULTIPLY[:ROWS]).sum(1, dtype=np.uint64)).tolist()
        return _Sketch(own, minima, list(enumerate(keys)))

    def _like(self, sketch: _Sketch) -> int | None:
        candidates = sorted({i for key in sketch.keys for i in self.buckets.get(key, ())})
        if not candidates:
            return None
        # Pages of one template share many bands: the share of equal minima spares most of their exact comparisons.
        alike = (np.stack([self.signatures[i] for i in candidates]) == sketch.minima).mean(1)
        near = [i for i, share in zip(candidates, alike, strict=True) if share >= LIKELY]
        return next((i for i in near if _jaccard(sketch.shingles, self.shingles[i]) >= JACCARD), None)

    def _add(self, sketch: _Sketch) -> None:
        for key in sketch.keys:
            self.buckets.setdefault(key, []).append(len(self.shingles))
        self.shingles.append(sketch.shingles)
        self.signatures.append(sketch.minima)


@dataclass(frozen=True)
class _Sketch:
    """A text as it is compared: its shingles, [BANDS * ROWS] minima, (band, key) each; all empty for a short one."""

    shingles: np.ndarray
    minima: np.ndarray
    keys: list[tuple[int, int]]


def _digest(normalized: str) -> bytes:
    return hashlib.blake2b(normalized.encode("utf-8", "surrogatepass"), digest_size=16).digest()


def _shingles(text: str, words: dict[str, int]) -> np.ndarray:
    """[S] uint64, sorted and unique: the hashes of all runs of `WORDS` words. words: hashes known so far."""
    found = _WORD.findall(text)
    if len(found) < WORDS:
        return np.empty(0, np.uint64)
    if len(words) > 2**20:
        words.clear()
    for word in set(found) - words.keys():
        words[word] = int.from_bytes(hashlib.blake2b(word.encode("utf-8", "surrogatepass"), digest_size=8).digest())
    hashes = np.fromiter((words[word] for word in found), np.uint64, len(found))
    runs = np.lib.stride_tricks.sliding_window_view(hashes, WORDS)
    return np.unique(_mix((runs * _POSITION).sum(1, dtype=np.uint64)))


def _mix(x: np.ndarray) -> np.ndarray:
    """splitmix64: every bit of the output depends on every bit of the input."""
    x = (x ^ (x >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    x = (x ^ (x >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return x ^ (x >> np.uint64(31))


def _odd(count: int, start: int) -> np.ndarray:
    return _mix(np.arange(start, start + count, dtype=np.uint64) * np.uint64(0x9E3779B97F4A7C15)) | np.uint64(1)


_POSITION = _odd(WORDS, 1)
_MULTIPLY = _odd(BANDS * ROWS, 1000)  # fixed: another choice finds other candidates among pairs just at the threshold
_ADD = _odd(BANDS * ROWS, 2000)


def _minima(shingles: np.ndarray) -> np.ndarray:
    """[BANDS * ROWS] uint64: two sets agree in each with a probability of their Jaccard similarity."""
    return np.array([(shingles * a + b).min() for a, b in zip(_MULTIPLY, _ADD, strict=True)], np.uint64)


def _jaccard(a: np.ndarray, b: np.ndarray) -> float:
    if min(len(a), len(b)) < JACCARD * max(len(a), len(b)):
        return 0.0
    common = len(np.intersect1d(a, b, assume_unique=True))
    return common / (len(a) + len(b) - common)

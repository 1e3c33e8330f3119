"""What texts are compared by: the sets of their 5-word shingles, and MinHash, which finds the pairs to compare."""

from __future__ import annotations

import hashlib
import re
import unicodedata
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

WORDS = 5
JACCARD = 0.8
BANDS, ROWS = 25, 5
"""A pair of Jaccard similarity J becomes a candidate with probability 1 - (1 - J^ROWS)^BANDS: .99995 at 0.8."""
MARGIN = 0.15
"""A candidate whose share of equal minima is so far below the limit is dropped: four standard deviations at 0.8."""
FULL = 256
"""Texts that one band's key finds at most, the first ones: pages of one template may share a band by the million. Near-
duplicates share a third of their bands or more, most of which are their own."""
AT_ONCE = 2**12
"""Shingles to a product with all multipliers: 2 MB, which a cache holds."""

_UNSPACED = "\u0e00-\u0eff\u1780-\u17ff\u3040-\u30ff\u3400-\u9fff"
_WORD = re.compile(f"[{_UNSPACED}]|[^\\W{_UNSPACED}]+")  # Thai, Lao, Khmer, kana, Han: no spaces, a character is a word


@dataclass(frozen=True)
class Sketch:
    """A text as it is compared.

    shingles: [S] uint64, sorted and unique hashes. minima: [BANDS * ROWS] uint32; two texts agree in each with a
    probability of their Jaccard similarity. keys: [BANDS] uint64, equal where all minima of a band are. All are empty
    for a text of fewer than `WORDS` words.
    """

    shingles: np.ndarray
    minima: np.ndarray
    keys: np.ndarray


class WordHashes(dict[str, int]):
    """The 8-byte hashes of words met so far."""

    def __missing__(self, word: str) -> int:
        data = hashlib.blake2b(word.encode("utf-8", "surrogatepass"), digest_size=8).digest()
        found = self[word] = int.from_bytes(data)
        return found


def normalize(text: str) -> str:
    """What makes two texts the same: NFKC, no case, one space for any white space.

    >>> normalize("A  caf\\u00e9\\r\\n") == normalize("a cafe\\u0301")
    True
    """
    return " ".join(unicodedata.normalize("NFKC", text).casefold().split())


def digest(normalized: str) -> bytes:
    """16 bytes that normalized texts share when they are the same."""
    return hashlib.blake2b(normalized.encode("utf-8", "surrogatepass"), digest_size=16).digest()


def sketch(normalized: str, words: WordHashes, unique: bool = True) -> Sketch:
    """The sketch of a normalized text, the same on every machine; about 0.1 ms for 1 kB. words: hashes known so far.

    unique: False leaves the shingles as they come, which is enough for minima and keys.
    """
    hashes = _hashes(_WORD.findall(normalized), words)
    if len(hashes) < WORDS:
        empty = np.empty(0, np.uint64)
        return Sketch(empty, empty.astype(np.uint32), empty)
    count = len(hashes) - WORDS + 1
    shingles = _mix(np.asarray(sum(hashes[i : i + count] * _POSITION[i] for i in range(WORDS))))
    shingles = np.unique(shingles) if unique else shingles
    minima = _minima(shingles)
    keys = _mix((minima.reshape(BANDS, ROWS).astype(np.uint64) * _KEY).sum(1, dtype=np.uint64))
    return Sketch(shingles, minima, keys)


def jaccard(a: np.ndarray, b: np.ndarray, limit: float = JACCARD) -> float:
    """The similarity of two sets of shingles; 0 where their sizes alone keep it below the limit."""
    if not len(a) or min(len(a), len(b)) < limit * max(len(a), len(b)):
        return 0.0
    common = len(np.intersect1d(a, b, assume_unique=True))
    return common / (len(a) + len(b) - common)


def first_like(
    own: Sketch, minima: np.ndarray, shingles: Callable[[int], np.ndarray], limit: float
) -> tuple[int, float] | None:
    """The first candidate with a similarity of at least the limit, and the similarity; None where there is none.

    minima: [candidates, BANDS * ROWS]. shingles: those of a candidate by its place.
    """
    alike = (minima == own.minima).mean(1)  # spares the pages of one template most of their exact comparisons
    for at in np.flatnonzero(alike >= limit - MARGIN).tolist():
        if (found := jaccard(own.shingles, shingles(at), limit)) >= limit:
            return at, found
    return None


def _hashes(found: list[str], words: WordHashes) -> np.ndarray:
    if len(words) > 2**20:
        words.clear()
    return np.fromiter(map(words.__getitem__, found), np.uint64, len(found))


def _minima(shingles: np.ndarray) -> np.ndarray:
    """Of the shingles' upper halves, under 125 fixed multiplications and additions modulo 2^32."""
    halves = (shingles >> np.uint64(32)).astype(np.uint32)
    found = [(halves[at : at + AT_ONCE, None] * _MULTIPLY + _ADD).min(0) for at in range(0, len(halves), AT_ONCE)]
    return np.minimum.reduce(found)


def _mix(x: np.ndarray) -> np.ndarray:
    """splitmix64: every bit of the output depends on every bit of the input."""
    x = (x ^ (x >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    x = (x ^ (x >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return x ^ (x >> np.uint64(31))


def _odd(count: int, start: int) -> np.ndarray:
    return _mix(np.arange(start, start + count, dtype=np.uint64) * np.uint64(0x9E3779B97F4A7C15)) | np.uint64(1)


_POSITION, _KEY = _odd(WORDS, 1), _odd(ROWS, 3000)
# fixed: another choice finds other candidates among pairs just at the threshold
_MULTIPLY = (_odd(BANDS * ROWS, 1000) >> np.uint64(32)).astype(np.uint32) | np.uint32(1)
_ADD = (_odd(BANDS * ROWS, 2000) >> np.uint64(32)).astype(np.uint32)

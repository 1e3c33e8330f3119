"""What a loss alone cannot tell: boilerplate and repetition, whose loss is low, and garbling, whose loss is high.

Crude measures of a text's first characters, held against the other texts of the same corpus. They point at texts for
a person to read; none of them is a verdict. Shuffled words, for one, are seen by none of them.
"""

from __future__ import annotations

import re
import unicodedata
import zlib
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

REPETITIVE = 0.6
"""Of the usual compressed size of a text of its length: below it, a text says little that is new."""
REPEATED = 0.3
"""Share of a text in lines or runs of words that it has had before."""
ENCODED = 40
"""Letters and digits in one run: longer ones are keys or base64. Addresses and code have other signs between."""
LETTERS = 0.55
"""Share of letters among what is not white space, in prose at least."""
UNKNOWN = 0.5
"""Share of words that no other text has."""
LEAST = 60
"""Characters below which a text is too short to judge."""

_RUN = 4  # words
_SOLID = re.compile(r"[A-Za-z0-9+]+")
_WORD = re.compile(r"[^\W\d_]+(?:['’-][^\W\d_]+)*")


@dataclass(frozen=True)
class Measures:
    """Of one text: compressed, its size under zlib as a share of its bytes; repeated, unknown and letters, shares;
    longest, letters and digits in one run; script, the alphabet of most of its letters.
    """

    compressed: float
    repeated: float
    letters: float
    longest: int
    unknown: float
    script: str


def measure(texts: Sequence[str]) -> list[Measures]:
    """The measures of each text. `unknown` is relative to the others given: some hundred are needed to mean much."""
    words = [_WORD.findall(text.lower()) for text in texts]
    spread = Counter(word for own in words for word in set(own))
    return [_measured(text, own, spread) for text, own in zip(texts, words, strict=True)]


def flags(texts: Sequence[str], found: Sequence[Measures]) -> list[list[str]]:
    """For each text what it looks like: "repetitive", "repeated lines", "encoded", "few letters", "unknown words" or
    "other script"; nothing for most, and for those too short to judge.
    """
    usual = _usual(texts, found)
    script = Counter(own.script for own in found).most_common(1)[0][0] if found else ""
    return [
        _flagged(own, size, script) if len(text) >= LEAST else []
        for text, own, size in zip(texts, found, usual, strict=True)
    ]


LOW, HIGH = ("repetitive", "repeated lines"), ("encoded", "few letters", "unknown words", "other script")
"""What goes with a low loss, and what with a high one."""


def _flagged(own: Measures, usual: float, script: str) -> list[str]:
    seen = {
        "repetitive": own.compressed < REPETITIVE * usual,
        "repeated lines": own.repeated > REPEATED,
        "encoded": own.longest > ENCODED,
        "few letters": own.letters < LETTERS,
        "unknown words": own.unknown > UNKNOWN and own.script == script,
        "other script": own.script not in (script, ""),
    }
    return [name for name, true in seen.items() if true]


def _measured(text: str, words: list[str], spread: Counter[str]) -> Measures:
    data = text.encode("utf-8", "replace")
    solid = [c for c in text if not c.isspace()]
    letters = sum(c.isalpha() for c in solid)
    alone = sum(spread[word] == 1 for word in words)
    return Measures(
        compressed=len(zlib.compress(data, 9)) / max(1, len(data)),
        repeated=max(_repeated(text.split("\n")), _repeated(_runs(text.split()))),
        letters=letters / max(1, len(solid)),
        longest=max(map(len, _SOLID.findall(text)), default=0),
        unknown=alone / max(1, len(words)),
        script=_script(text),
    )


def _runs(words: list[str]) -> list[str]:
    return [" ".join(words[i : i + _RUN]) for i in range(max(0, len(words) - _RUN + 1))]


def _repeated(parts: list[str]) -> float:
    """The share of characters in parts that have come before."""
    stripped = [part.strip() for part in parts if len(part.strip()) > 3]
    seen: set[str] = set()
    again = 0
    for part in stripped:
        again += len(part) * (part in seen)
        seen.add(part)
    return again / max(1, sum(map(len, stripped)))


def _script(text: str) -> str:
    """The first word of the Unicode name of most letters: LATIN, CYRILLIC, CJK, …; "" without letters."""
    names = Counter(unicodedata.name(c, "?").split()[0] for c in text[:400] if c.isalpha())
    name = names.most_common(1)[0][0] if names else ""
    return "HAN" if name in ("CJK", "HIRAGANA", "KATAKANA") else name


def _usual(texts: Sequence[str], found: Sequence[Measures]) -> np.ndarray:
    """[N] the median compressed share among texts of about that length: short ones compress badly."""
    size = np.array([np.log2(max(1, len(text.encode("utf-8", "replace")))).round() for text in texts])
    compressed = np.array([own.compressed for own in found])
    usual = np.ones(len(texts))
    for bucket in np.unique(size):
        usual[size == bucket] = np.median(compressed[size == bucket])
    return usual

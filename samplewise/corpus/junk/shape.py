"""What the characters of a text show without any language: repetition, encoded data, markup, symbols, strange signs."""

from __future__ import annotations

import re
import unicodedata
import zlib
from collections.abc import Sequence
from itertools import pairwise

import numpy as np

NAMES = ("compressed", "repeated", "encoded", "markup", "symbols", "digits", "strange", "mixed words", "short lines",
         "phrases")  # fmt: skip
"""The columns of `shapes`, shares all of them but the first: compressed, bits a byte."""
_RUN = 4  # words
_SOLID = re.compile(r"[A-Za-z0-9+/=_-]{24,}")
_HEX = re.compile(r"\b(?:[0-9a-fA-F]{2}[\s:,]?){12,}")
_TAG = re.compile(r"<[/!]?[a-zA-Z][^<>]{0,300}>|&#?\w{2,8};|\[/?[a-z]{1,6}\]|\{[a-z-]+:[^{}]{1,80}\}")
_DIGITS = re.compile(r"\d+")
_SCRIPTS = re.compile(
    r"[A-Za-z][\u0370-\u04ff\u0531-\u058f\u13a0-\u13ff]|[\u0370-\u04ff\u0531-\u058f\u13a0-\u13ff][A-Za-z]"
)
_CAPITALS = re.compile(r"[a-z][A-Z][a-z][A-Z]|[A-Za-z][0-9@$!][A-Za-z]")
_MOJIBAKE = re.compile(
    r"[ÂÃâÐÑ][\u0080-\u00bf€‚ƒ„…†‡ˆ‰Š‹ŒŽ‘’“”•–—˜™š›œžŸ]|[\x00-\x08\x0b\x0e-\x1f\x7f-\x9f\ufffd\ue000-\uf8ff]"
)
_PHRASES = re.compile(
    r"©|(?=[a-z])(?:all rights reserved|privacy policy|terms (?:of|and) \w+|cookies?\b|copyright ©?|sign (?:up|in)\b"
    r"|log ?(?:in|out)\b|subscribe|newsletter|click here|read more|learn more|skip to|contact us|about us|\bmenu\b"
    r"|\bhome\b|site ?map|javascript|share (?:on|this)|follow us|add to cart|shopping cart|powered by|\bfaqs?\b"
    r"|my account"
    r"|back to top|next page|previous|leave a (?:reply|comment)|\breply\b|permalink|related posts"
    r"|advertisement|sponsored|search\b)"
)
"""What the frames of pages say."""


def shapes(texts: Sequence[str]) -> np.ndarray:
    """[N, 10] the measures of each text; `NAMES` says which."""
    return np.array([_shape(text) for text in texts]).reshape(-1, len(NAMES))


def _shape(text: str) -> tuple[float, ...]:
    size = max(1, len(text))
    solid = max(1, sum(map(len, text.split())))
    letters = sum(map(str.isalpha, text))
    digits = sum(map(str.isdigit, text))
    words = max(1, len(text.split()))
    tags = sum(map(len, _TAG.findall(text))) if "<" in text or "&" in text or "[" in text or "{" in text else 0
    return (
        _compressed(text),
        _repeated(text),
        (sum(len(own) for own in _SOLID.findall(text) if _encoded(own)) + sum(map(len, _HEX.findall(text)))) / size,
        tags / size,
        max(0, solid - letters - digits - _marks(text)) / solid,
        digits / solid,
        len(_MOJIBAKE.findall(text)) / words,
        _mixed(text) / words,
        _short_lines(text),
        len(_PHRASES.findall(text.lower())) / words,
    )


def _compressed(text: str) -> float:
    """Bits a byte under zlib, what its header and first words cost taken off."""
    data = _DIGITS.sub("0", text).encode("utf-8", "replace")
    return 8 * max(1, len(zlib.compress(data, 9)) - 60) / max(60, len(data))


def _repeated(text: str) -> float:
    """The share of lines, or of runs of words, that have come before, whatever their numbers."""
    plain = _DIGITS.sub("0", text)
    words = plain.split()
    runs = [" ".join(words[i : i + _RUN]) for i in range(max(0, len(words) - _RUN + 1))]
    return max(_again(plain.split("\n")), _again(runs))


def _again(parts: Sequence[str]) -> float:
    stripped = [part for part in map(str.strip, parts) if len(part) > 3]
    if len(stripped) < 3:
        return 0.0
    seen: set[str] = set()
    again = 0
    for part in stripped:
        again += len(part) * (part in seen)
        seen.add(part)
    return again / sum(map(len, stripped))


def _encoded(run: str) -> bool:
    """Whether a long run without a space is no word, path or rule: of mixed kinds of character, in no order."""
    kinds = [(c.isdigit(), c.isupper(), c.islower()) for c in run]
    changes = sum(a != b for a, b in pairwise(kinds))
    return changes > 0.25 * len(run)


def _mixed(text: str) -> int:
    """How often scripts, or capitals, digits and signs, change within a word."""
    return len(_CAPITALS.findall(text)) + (0 if text.isascii() else len(_SCRIPTS.findall(text)))


def _marks(text: str) -> int:
    """Vowel signs and the like, which are no letters to Python."""
    return 0 if text.isascii() else sum(unicodedata.category(c)[0] == "M" for c in text)


def _short_lines(text: str) -> float:
    """The share of lines, or of what bars and bullets part, that have few words and end in no stop."""
    lines = [line.strip() for line in re.split(r"[\n|•·»]", text) if line.strip()]
    if len(lines) < 4:
        return 0.0
    return sum(len(line.split()) <= 5 and line[-1] not in ".!?:;,{}()" for line in lines) / len(lines)

"""Texts as arrays of characters: one array for many texts, so that what follows is arithmetic, not loops."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache

import numpy as np

LIMIT = 1200
"""Characters of a text that are looked at: what the scores keep is shorter as a rule."""
GAP = 5
"""Spaces between two texts: no run of characters that the model knows crosses them."""
WINDOW = 100
"""Characters of a window: long enough for its language to show, short enough for a mixture to."""
SIZE = 65536
_SPACE = re.compile(r"\s+")
SPACE, DIGIT = 32, 48

SCRIPTS = (
    "other", "latin", "greek", "cyrillic", "armenian", "hebrew", "arabic", "thaana", "devanagari", "bengali",
    "gurmukhi", "gujarati", "tamil", "telugu", "kannada", "malayalam", "thai", "myanmar", "georgian", "ethiopic",
    "khmer", "hangul", "kana", "han",
)  # fmt: skip
_RANGES = (  # first and last letter of a block, and its script
    (0x41, 0x24F, 1), (0x1E00, 0x1EFF, 1), (0x370, 0x3FF, 2), (0x1F00, 0x1FFF, 2), (0x400, 0x52F, 3),
    (0x531, 0x58F, 4), (0x590, 0x5FF, 5), (0x600, 0x6FF, 6), (0x750, 0x77F, 6), (0xFB50, 0xFEFC, 6),
    (0x780, 0x7BF, 7), (0x900, 0x97F, 8), (0x980, 0x9FF, 9), (0xA00, 0xA7F, 10), (0xA80, 0xAFF, 11),
    (0xB80, 0xBFF, 12), (0xC00, 0xC7F, 13), (0xC80, 0xCFF, 14), (0xD00, 0xD7F, 15), (0xE00, 0xE7F, 16),
    (0x1000, 0x109F, 17), (0x10A0, 0x10FF, 18), (0x1200, 0x139F, 19), (0x1780, 0x17FF, 20), (0x1100, 0x11FF, 21),
    (0xAC00, 0xD7AF, 21), (0x3040, 0x30FF, 22), (0x3400, 0x9FFF, 23),
)  # fmt: skip


@dataclass(frozen=True)
class Characters:
    """Of the first 65,536: whether each is a letter or a mark on one, a digit, a capital; its small letter; its
    script.
    """

    letter: np.ndarray
    digit: np.ndarray
    capital: np.ndarray
    small: np.ndarray
    script: np.ndarray


@cache
def characters() -> Characters:
    """What Unicode says of them; made once, in 50 ms."""
    kinds = [unicodedata.category(chr(code)) for code in range(SIZE)]
    letter = np.array([kind[0] in "LM" for kind in kinds])
    small = [ord(low) if len(low := chr(code).lower()) == 1 else code for code in range(SIZE)]
    script = np.zeros(SIZE, np.uint8)
    for first, last, number in _RANGES:
        script[first : last + 1] = number
    return Characters(
        letter, np.array([kind == "Nd" for kind in kinds]), np.array([kind in ("Lu", "Lt") for kind in kinds]),
        np.array(small, np.uint32), np.where(letter, script, 0).astype(np.uint8),
    )  # fmt: skip


@dataclass(frozen=True)
class Letters:
    """codes: [K] of all texts, in small letters, white space as one space, digits as 0. capital: [K] which were
    capitals.
    text: [K] whose each is, or −1 for the gaps. starts: [W] of windows; owner: [W] whose each is; size: [W]
    characters. count: of texts.
    """

    codes: np.ndarray
    capital: np.ndarray
    text: np.ndarray
    starts: np.ndarray
    owner: np.ndarray
    size: np.ndarray
    count: int

    def script(self) -> np.ndarray:
        """[W] the script of most letters of each window; 0 without letters."""
        own = characters().script[np.minimum(self.codes, SIZE - 1)]
        window = self.window()
        inside = window >= 0
        pairs = window[inside].astype(np.int64) * len(SCRIPTS) + own[inside]
        counts = np.bincount(pairs, minlength=len(self.starts) * len(SCRIPTS)).reshape(-1, len(SCRIPTS))
        counts[:, 0] = 0
        # a Japanese text is one of kana, however many of its characters are Han
        counts[:, SCRIPTS.index("kana")] *= 4
        return np.where(counts.any(1), counts.argmax(1), 0)

    def window(self) -> np.ndarray:
        """[K] the window of each character; −1 in gaps."""
        found = np.full(len(self.codes), -1, np.int32)
        place = np.repeat(np.arange(len(self.starts), dtype=np.int32), self.size)
        within = np.arange(len(place)) - np.repeat(np.cumsum(self.size) - self.size, self.size)
        found[np.repeat(self.starts, self.size) + within] = place
        return found


def composed(text: str) -> str:
    """Letters and their accents as one character each, however they were written."""
    return text if text.isascii() else unicodedata.normalize("NFC", text)


def letters_of(texts: Sequence[str]) -> Letters:
    """The array of some texts. Only their first `LIMIT` characters count."""
    plain = [_SPACE.sub(" ", composed(text[:LIMIT])).strip() for text in texts]
    joined = (" " * GAP).join(["", *plain, ""])
    codes = np.frombuffer(joined.encode("utf-32-le", "surrogatepass"), np.uint32).copy()
    known, near = characters(), np.minimum(codes, SIZE - 1)
    capital = known.capital[near] & (codes < SIZE)
    codes = np.where(codes < SIZE, known.small[near], codes)
    codes[known.digit[near]] = DIGIT
    lengths = np.array([len(text) for text in plain], np.int64)
    starts = np.cumsum(lengths + GAP) - lengths
    text = np.full(len(codes), -1, np.int32)
    for place, (start, length) in enumerate(zip(starts, lengths, strict=True)):
        text[start : start + length] = place
    windows = np.where(lengths > 0, np.maximum(1, np.round(lengths / WINDOW)), 0).astype(np.int64)
    owner = np.repeat(np.arange(len(plain)), windows)
    rank = np.arange(len(owner)) - np.repeat(np.cumsum(windows) - windows, windows)
    begin = rank * lengths[owner] // windows[owner]
    end = (rank + 1) * lengths[owner] // windows[owner]
    return Letters(
        codes=codes, capital=capital, text=text, starts=starts[owner] + begin, owner=owner, size=end - begin,
        count=len(plain),
    )  # fmt: skip

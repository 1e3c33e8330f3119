"""What is usual of letters, words, signs and lines in text that people write: each may be too much or too little."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

import numpy as np

from samplewise.corpus.junk.letters import DIGIT, SIZE, SPACE, Letters, characters
from samplewise.corpus.junk.ngrams import Table, keyed, salt
from samplewise.corpus.junk.words import FREQUENT, STOP, WORD, Words

NAMES = ("known words", "known letters", "frequent words", "word length", "length spread", "lone letters", "long words",
         "spaces", "letters", "vowels", "letters unlike English", "capitals", "inner capitals", "doubled letters",
         "stops", "commas", "other marks", "numbers", "foreign letters", "entropy", "sorts", "repeated words",
         "words a stop", "longest run", "line length", "line spread", "lines continued")  # fmt: skip
"""The columns of `habits`."""
ENGLISH = np.array([8.17, 1.49, 2.78, 4.25, 12.7, 2.23, 2.02, 6.09, 6.97, 0.15, 0.77, 4.03, 2.41, 6.75, 7.51, 1.93,
                    0.10, 5.99, 6.33, 9.06, 2.76, 0.98, 2.36, 0.15, 1.97, 0.07]) / 100  # fmt: skip
"""How frequent the letters are in English: Lewand, Cryptological Mathematics, 2000."""
VOWELS = np.isin(np.arange(26), [0, 4, 8, 14, 20, 24])
LONG = 15
"""Letters of a word beyond which it is long."""


def habits(texts: Sequence[str], letters: Letters, words: Words, classes: np.ndarray, table: Table) -> np.ndarray:
    """[N, 27] of each text; `NAMES` says which. Shares, but for lengths, bits and counts; nan where there is nothing
    to count.
    """
    columns = [*_words(words, classes, table, letters.count), *_letters(letters), *_marks(letters, words, classes)]
    return np.c_[np.stack(columns, 1), np.array([_lines(text) for text in texts]).reshape(-1, 4)]


def _share(some: np.ndarray, every: np.ndarray) -> np.ndarray:
    return np.where(every > 0, some / np.maximum(every, 1), np.nan)


def _words(words: Words, classes: np.ndarray, table: Table, count: int) -> list[np.ndarray]:
    text, length = words.text[words.word], words.length[words.word]
    known = table.find(keyed(words.code[words.word], salt(0, WORD))) < 255
    every = np.bincount(text, minlength=count)
    size = np.bincount(text, length, count)
    long = length > 3
    mean = _share(size, every)
    return [
        _share(np.bincount(text[long], known[long], count), np.bincount(text[long], minlength=count)),
        _share(np.bincount(text[long], (known * length)[long], count), size),
        _share(np.bincount(text, classes[words.word] < FREQUENT, count), every),
        mean,
        np.sqrt(np.maximum(_share(np.bincount(text, length.astype(float) ** 2, count), every) - mean**2, 0)),
        _share(np.bincount(text, length == 1, count), every),
        _share(np.bincount(text, length > LONG, count), every),
    ]


def _letters(letters: Letters) -> list[np.ndarray]:
    count, inside = letters.count, letters.text >= 0
    text, codes, capital = letters.text[inside], letters.codes[inside], letters.capital[inside]
    letter = characters().letter[np.minimum(codes, SIZE - 1)]
    size, every = np.bincount(text, minlength=count), np.bincount(text, letter, count)
    solid = size - np.bincount(text, codes == SPACE, count)
    plain = (codes >= 97) & (codes <= 122)
    counts = np.bincount(text[plain] * 26 + codes[plain].astype(np.int64) - 97, minlength=count * 26)
    counts = counts.reshape(count, 26)
    total = counts.sum(1)
    smooth = (counts + ENGLISH) / (total + 1)[:, None]
    before = np.r_[False, (letter & ~capital)[:-1] & (text[1:] == text[:-1])]
    twice = np.r_[False, (codes[1:] == codes[:-1]) & (text[1:] == text[:-1])] & letter
    return [
        _share(size - solid, size), _share(every, solid), _share(counts[:, VOWELS].sum(1), total),
        np.where(total > 0, (smooth * np.log2(smooth / ENGLISH)).sum(1), np.nan),
        _share(np.bincount(text, capital, count), every), _share(np.bincount(text, capital & before, count), every),
        _share(np.bincount(text, twice, count), every),
    ]  # fmt: skip


def _marks(letters: Letters, words: Words, classes: np.ndarray) -> list[np.ndarray]:
    count, inside = letters.count, letters.text >= 0
    text, codes = letters.text[inside], letters.codes[inside]
    size = np.bincount(text, minlength=count)
    sign = ~words.word
    code = letters.codes[words.first]
    stop, comma, number = np.isin(code, [46, 33, 63]) & sign, np.isin(code, [44, 59, 58]) & sign, code == DIGIT
    rest = sign & ~stop & ~comma & ~number
    letter = characters().letter[np.minimum(codes, SIZE - 1)]
    pair, often = np.unique(text.astype(np.int64) * (1 << 21) + codes, return_counts=True)
    owner = pair >> 21
    chance = often / size[owner]
    word = words.text[words.word].astype(np.int64) << 32 | words.code[words.word]
    kinds = np.bincount(np.unique(word) >> 32, minlength=count)
    every = np.bincount(words.text[words.word], minlength=count)
    return [
        *(_share(np.bincount(words.text, own, count), size) for own in (stop, comma, rest, number)),
        _share(np.bincount(text, letter & (codes > 127), count), np.bincount(text, letter, count)),
        np.bincount(owner, -chance * np.log2(chance), count),
        _share(np.bincount(owner, minlength=count), np.sqrt(size)),
        1 - _share(kinds, every), every / (1 + np.bincount(words.text, classes == STOP, count)),
    ]  # fmt: skip


def _lines(text: str) -> tuple[float, ...]:
    """The longest run without a space; of lines, the mean length, its spread as a share, and how many continue with a
    small letter after one that did not end.
    """
    lines = [line.strip() for line in text.split("\n") if line.strip()]
    lengths = np.array([len(line) for line in lines] or [0])
    on = sum(a[-1] not in ".!?:;,{}()" and b[0].islower() for a, b in pairwise(lines))
    longest = max(map(len, text.split()), default=0)
    return (
        float(longest), float(lengths.mean()), float(lengths.std() / max(1.0, lengths.mean())),
        on / (len(lines) - 1) if len(lines) > 1 else np.nan,
    )  # fmt: skip

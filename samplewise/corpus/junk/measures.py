"""All measures of some texts: a row a text, a column a measure, the same for a text whatever stands beside it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from samplewise.corpus.junk import habits, shape
from samplewise.corpus.junk.coherence import backwards, seams
from samplewise.corpus.junk.languages import ENGLISH, NONE, Judged, judge
from samplewise.corpus.junk.letters import Letters, letters_of
from samplewise.corpus.junk.model import Model
from samplewise.corpus.junk.words import DISTANCES, order, unknown, words_of

KINDS = ("English", "other language", "code", "LaTeX")
"""What a text mostly is."""
NAMES = ("garbled", "garbled part", "unknown words", "order 1", "order 2", "order 3", "languages",
         *shape.NAMES, "seam", "backwards")  # fmt: skip
"""The columns that are worse the higher they are; nan where a measure is blind."""
TWO_SIDED = ("excess spread", "least garbled", "beside", "least beside", "not English", "most not English",
             *habits.NAMES, "size")  # fmt: skip
"""The columns of which too much is as unusual as too little."""
CODE, LATEX = ("python", "c", "web"), "latex"
BLOCK = 2000
"""Texts measured at a time: the memory of some hundred MB, whatever their number."""
MIXED = 0.2
"""Share of code, or of LaTeX, from which on a text in a language counts as that."""
FINE = 40
"""Characters of a window below which its excess counts for little."""


@dataclass(frozen=True)
class Measured:
    """values: [N, M], `NAMES`. habits: [N, M'], `TWO_SIDED`. kind: [N] index into `KINDS`. language: [N] index of the
    language of most of it, or −1.
    """

    values: np.ndarray
    habits: np.ndarray
    kind: np.ndarray
    language: np.ndarray


def measure(texts: Sequence[str], model: Model) -> Measured:
    """The measures of every text, by its first characters."""
    parts = [_block(texts[i : i + BLOCK], model) for i in range(0, len(texts), BLOCK)]
    if not parts:
        none = np.zeros(0, np.int64)
        return Measured(np.zeros((0, len(NAMES))), np.zeros((0, len(TWO_SIDED))), none, none)
    return joined(parts)


def joined(parts: Sequence[Measured]) -> Measured:
    """The measures of several sets of texts as one."""
    names = ("values", "habits", "kind", "language")
    return Measured(*(np.concatenate([getattr(part, name) for part in parts]) for name in names))


def _block(texts: Sequence[str], model: Model) -> Measured:
    letters = letters_of(texts)
    count = len(texts)
    judged = judge(letters, model.table, model.languages)
    whole, part = _excess(letters, judged)
    language = _mostly(letters, judged, len(model.languages.names))
    words = words_of(letters)
    window = letters.window()[words.first] if len(words.first) else words.first
    english = judged.language[window] == model.languages.names.index(ENGLISH) if len(window) else window > 0
    classes = model.english.classes(words, letters.codes) if len(words.first) else words.first
    columns = [whole, part, unknown(words, english, model.table, count)]
    columns += list(-order(words, classes, english, model.english, count).T)
    columns += [_switches(letters, judged, language, model), *shape.shapes(texts).T]
    columns += [seams(words, classes, english, model.table, count)]
    kind = _kind(letters, judged, language, model.languages.names)
    columns += [backwards(texts, kind == 0, model.places, model.turns)]
    size = np.bincount(letters.owner, letters.size, count)
    usual = habits.habits(texts, letters, words, classes, model.table)
    both = np.c_[np.stack(_spread(letters, judged), 1), usual, np.log2(1 + size)]
    return Measured(np.stack(columns, 1).astype(np.float64), both, kind, language)


def _excess(letters: Letters, judged: Judged) -> tuple[np.ndarray, np.ndarray]:
    """([N] of the whole, [N] of the worst two neighbouring windows) bits a character beyond the usual; nan where
    blind.
    """
    owner, count = letters.owner, letters.count
    fine = ~np.isnan(judged.excess)
    value, size = np.where(fine, judged.excess, 0.0) * letters.size, letters.size * fine
    whole = np.bincount(owner, value, count) / np.maximum(np.bincount(owner, size, count), 1)
    blind = np.bincount(owner, size, count) < FINE
    same = owner[1:] == owner[:-1]
    pairs = (value[1:] + value[:-1]) / np.maximum(size[1:] + size[:-1], FINE)
    part = whole.copy()
    np.maximum.at(part, owner[1:][same], pairs[same])
    return np.where(blind, np.nan, whole), np.where(blind, np.nan, part)


def _spread(letters: Letters, judged: Judged) -> list[np.ndarray]:
    """[N] each: how the windows of a text differ in excess, the least of them; how sure their language is, and the
    least sure; how much more English costs, and where most.
    """
    owner, count = letters.owner, letters.count
    return [
        *_moments(judged.excess, owner, count), *_least(judged.beside, owner, count),
        *(-own for own in _least(-judged.english, owner, count)),
    ]  # fmt: skip


def _moments(values: np.ndarray, owner: np.ndarray, count: int) -> tuple[np.ndarray, np.ndarray]:
    mean, least = _least(values, owner, count)
    square, _ = _least(values**2, owner, count)
    return np.sqrt(np.maximum(square - mean**2, 0)), least


def _least(values: np.ndarray, owner: np.ndarray, count: int) -> tuple[np.ndarray, np.ndarray]:
    """([N] mean, [N] least) of the windows where there is a value."""
    fine = ~np.isnan(values)
    number = np.bincount(owner[fine], minlength=count)
    mean = np.bincount(owner[fine], values[fine], count) / np.maximum(number, 1)
    least = np.full(count, np.inf)
    np.minimum.at(least, owner[fine], values[fine])
    return np.where(number > 0, mean, np.nan), np.where(number > 0, least, np.nan)


def _mostly(letters: Letters, judged: Judged, languages: int) -> np.ndarray:
    """[N] the language of most characters."""
    pairs = letters.owner * (languages + 1) + judged.language + 1
    counts = np.bincount(pairs, letters.size, letters.count * (languages + 1)).reshape(letters.count, -1)
    return np.where(counts.any(1), counts.argmax(1) - 1, NONE)


def _switches(letters: Letters, judged: Judged, language: np.ndarray, model: Model) -> np.ndarray:
    """[N] share of a text in a third language, beside its own, code and English: prose quotes those everywhere."""
    names = model.languages.names
    usual = np.isin(np.arange(-1, len(names)), [names.index(name) for name in (*CODE, LATEX, ENGLISH)])
    strange = (judged.language != language[letters.owner]) & ~usual[judged.language + 1] & (letters.size >= FINE)
    total = np.bincount(letters.owner, letters.size, letters.count)
    return np.bincount(letters.owner, letters.size * strange, letters.count) / np.maximum(total, 1)


def _kind(letters: Letters, judged: Judged, language: np.ndarray, names: Sequence[str]) -> np.ndarray:
    """[N] the kind of each text. English quotes code, and is English still; other languages with code are rare."""
    total = np.maximum(np.bincount(letters.owner, letters.size, letters.count), 1)

    def share(*wanted: str) -> np.ndarray:
        here = np.isin(judged.language, [names.index(name) for name in wanted])
        return np.bincount(letters.owner, letters.size * here, letters.count) / total

    english = language == names.index(ENGLISH)
    code = np.isin(language, [names.index(name) for name in CODE]) | ((share(*CODE) > MIXED) & ~english)
    latex = (language == names.index(LATEX)) | (share(LATEX) > MIXED)
    return np.where(latex, 3, np.where(code, 2, np.where(english, 0, 1)))


assert DISTANCES == 3, "the columns are named"

"""Which language a window is in, and how unlike that language it is: the heart of what finds garbled text.

The script is counted first, which leaves the languages to choose among. Then the runs of three characters choose, the
window and its text together; and runs of up to five say what the window costs, in bits a character, beyond what clean
text of that language costs that the model was not made from.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from samplewise.corpus.junk.letters import SCRIPTS, Letters
from samplewise.corpus.junk.ngrams import STEP, UNKNOWN, Table, bits, keyed, runs, salt

ENGLISH = "en"
NONE = -1
"""The language of a window in a script that the model has none for."""
TEXT = 0.7
"""What a text's own bits a character count beside a window's in choosing its language."""


@dataclass(frozen=True)
class Languages:
    """names: of languages and kinds of code. script: [L] the number of each one's script. mean: [L] bits a character of
    clean text. spread: [L] standard deviation of a text's mean, between texts and kinds of text.
    """

    names: tuple[str, ...]
    script: np.ndarray
    mean: np.ndarray
    spread: np.ndarray


@dataclass(frozen=True)
class Judged:
    """language: [W] of each window, or NONE. excess: [W] bits a character beyond the language's mean; nan for NONE.
    beside: [W] bits a character by which the second best language costs more, by runs of three. english: [W] and by
    which English does; nan for other scripts, and where there is no choice.
    """

    language: np.ndarray
    excess: np.ndarray
    beside: np.ndarray
    english: np.ndarray


def judge(letters: Letters, table: Table, languages: Languages) -> Judged:
    """The language of every window, and what it costs beyond its mean."""
    hashes = runs(letters.codes)
    language, beside, english = _chosen(letters, hashes, table, languages)
    window = letters.window()
    own = np.r_[language, NONE][window]  # the last one for the gaps
    known = own >= 0
    cost = bits(table, hashes, np.where(known, own, 0))
    total = np.bincount(window[known], cost[known], len(letters.starts))
    excess = total / np.maximum(letters.size, 1) - languages.mean[np.maximum(language, 0)]
    return Judged(language, np.where(language >= 0, excess, np.nan), beside, english)


def _chosen(
    letters: Letters, hashes: list[np.ndarray], table: Table, languages: Languages
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    language = np.full(len(letters.starts), NONE)
    beside, english = np.full((2, len(letters.starts)), np.nan)
    script = letters.script()
    # what has no letters at all, and what stands in few, is more often code than anything else
    script = np.where(script == 0, SCRIPTS.index("latin"), script)
    for number in np.unique(script):
        among = np.flatnonzero(languages.script == number)
        windows = np.flatnonzero(script == number)
        if len(among) == 1:
            language[windows] = among[0]
        elif len(among):
            cost = _costs(letters, windows, hashes, table, among)
            whole = np.zeros((letters.count, len(among)))
            np.add.at(whole, letters.owner[windows], cost)
            total = np.bincount(letters.owner[windows], letters.size[windows], letters.count)
            share = whole / np.maximum(total, 1)[:, None]
            joint = cost + TEXT * share[letters.owner[windows]] * letters.size[windows][:, None]
            language[windows] = among[joint.argmin(1)]
            size = np.maximum(letters.size[windows], 1)
            best, second = np.partition(cost, 1, axis=1)[:, :2].T
            beside[windows] = (second - best) / size
            if ENGLISH in (names := [languages.names[own] for own in among]):
                english[windows] = (cost[:, names.index(ENGLISH)] - best) / size
    return language, beside, english


def _costs(
    letters: Letters, windows: np.ndarray, hashes: list[np.ndarray], table: Table, among: np.ndarray
) -> np.ndarray:
    """[windows, among] bits of each window by runs of three: looked up once for each kind of run."""
    found = np.zeros((len(windows), len(among)))
    for some, places in _blocks(letters, windows):
        kinds, first, back = np.unique(hashes[2][places], return_index=True, return_inverse=True)
        cost = np.full((len(among), len(kinds)), round(UNKNOWN * STEP), np.uint8)
        for length in (1, 2, 3):
            own = hashes[length - 1][places[first]]
            value = table.find(keyed(own[None, :], salt(among, length)[:, None]))
            cost = np.where(value < 255, value, cost)
        size = letters.size[windows[some]]
        heads = np.cumsum(size) - size
        for row, own in enumerate(cost):
            found[some, row] = np.add.reduceat(own[back], heads, dtype=np.int32) / STEP
    return found


def _blocks(letters: Letters, windows: np.ndarray, most: int = 4000) -> Iterator[tuple[slice, np.ndarray]]:
    """Some windows at a time, with the places of their characters, one after the other."""
    for start in range(0, len(windows), most):
        own = windows[start : start + most]
        size = letters.size[own]
        within = np.arange(size.sum()) - np.repeat(np.cumsum(size) - size, size)
        yield slice(start, start + len(own)), np.repeat(letters.starts[own], size) + within

"""Clean texts to develop with, of every sort, and the same made worse."""

from __future__ import annotations

import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import junk_noise

from junk_model.documents import SORTS, Document
from junk_model.languages import CODE, ENGLISH
from junk_model.noise import INVENTED
from junk_model.sources import Text, drawn, half
from samplewise.corpus.junk.measures import LATEX

CLEAN = "clean"
TAKEN = {"anarchism": 200, "foldoc": 150, "mail-easy": 200, "mail-spam": 200, "mail-hard": 80, "handbook": 150,
         "libreoffice": 150, "fortunes": 80, "jargon": 80}  # fmt: skip
"""English prose of the sources that the tables are made from; below, texts of each language, or package and half."""
OLD = {"code": 60, "latex": 100, "languages": 3}
NEW = {"prose": 100, "languages": 18, "code": 12, "latex": 40, "docstrings": 120, "pages": 25, "licence": 5}
NOISES = junk_noise.NAMED | INVENTED
MADE = 3
"""Texts of noise made of each clean one, of kinds drawn."""
HIDDEN = ("splice", "reversed sentences")
"""Kinds that the score is not asked to find, only to rank."""
LETTERS_ONLY = ("rot13", "OCR 10%", "base64", "hex", "HTML boilerplate", "repetition", "cipher", "letters lost",
                "letters gained", "letters changed", "letters spaced", "spaces moved", "odd capitals", "monkey",
                "letter chain", "palette", "signs between", "percent", "escapes", "quoted", "binary", "marks above",
                "other forms", "rail", "lines shuffled", "addresses", "records", "dump", "listing", "burst",
                "encoded part")  # fmt: skip
"""Kinds that text in other languages, code and LaTeX is made worse by: the order of its words is not looked at."""


@dataclass(frozen=True)
class Sample:
    """A clean text. sort: an index into `SORTS`; source; half: of two that share no package."""

    sort: int
    source: str
    half: int
    text: str


def samples(every: Sequence[Text], further: Sequence[Document], draw: random.Random) -> list[Sample]:
    """Clean texts of all sorts; long documents give several."""
    places: dict[tuple[int, str, int, bool], list[str]] = {}
    for text in every:
        sort, name = _sort(text)
        places.setdefault((SORTS.index(sort), name, half(text), False), []).extend(stretches(text.text))
    for own in further:
        part = int(drawn(own.source, 0.5))
        places.setdefault((SORTS.index(own.sort), own.source, part, True), []).extend(stretches(own.text))
    found = []
    for (sort, name, part, new), own in sorted(places.items()):
        draw.shuffle(own)
        count = TAKEN.get(name, 0) if sort == 0 and not new else (NEW if new else OLD)[SORTS[sort]]
        found += [Sample(sort, name, part, cut(text, draw)) for text in own[:count]]
    return found


def stretches(text: str) -> list[str]:
    """Where a long document gives a text: its beginning, and the beginning of a line every 1,500 characters."""
    starts = [0, *range(1500, min(len(text) - 600, 40_000), 1500)]
    cuts = (text[start:].split("\n", 1)[-1] if start else text for start in starts)
    return [part for part in map(str.strip, cuts) if len(part) >= 200]


def _sort(text: Text) -> tuple[str, str]:
    if text.language == ENGLISH:
        return "prose", text.source
    if text.language == LATEX:
        return "latex", LATEX
    return ("code", text.language) if text.language in CODE else ("languages", f"{text.language} {text.source}")


def cut(text: str, draw: random.Random) -> str:
    """The first characters: 200 to 550 of half of the texts, 400 to 800 of most others, some shorter."""
    low, high = draw.choices([(200, 550), (400, 800), (60, 250)], [0.5, 0.4, 0.1])[0]
    return text.strip()[: draw.randint(low, high)]


def worse(own: Sequence[Sample], draw: random.Random) -> Iterator[tuple[Sample, str, str]]:
    """(sample, kind, text) of noise made of the samples of one half."""
    pools: dict[int, list[str]] = {}
    for each in own:
        pools.setdefault(each.sort, []).append(each.text)
    english = [SORTS.index(name) for name in ("prose", "docstrings", "pages", "licence")]
    for each in own:
        for kind in draw.sample(list(NOISES) if each.sort in english else LETTERS_ONLY, MADE):
            pool = pools[each.sort]
            made = NOISES[kind](each.text, draw, draw.sample(pool, min(60, len(pool))))
            if made != each.text and len(made) >= 60:
                yield each, kind, made

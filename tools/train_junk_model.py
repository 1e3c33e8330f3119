"""Make samplewise/corpus/junk/model.npz from packages: `python tools/train_junk_model.py FOLDER [--keep-tables]`.

FOLDER holds the packages unpacked, one folder each, as tools/junk_model/README.md says. Nothing else is read: no text
that the measures are tested on takes part. First come the tables of languages and of English words: two models of half
of the sources each judge what the other half was made from, which says what clean text costs. Then what is usual, the
trees and the borders, from texts of which most took no part in the tables; `--keep-tables` does only that, in two and a
half minutes of one core. The same packages give the same file.
"""

from __future__ import annotations

import random
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np

sys.path[:0] = [str(Path(__file__).parents[1]), str(Path(__file__).parents[1] / "bench"), str(Path(__file__).parent)]

from junk_model.direction import direction  # noqa: E402
from junk_model.documents import documents  # noqa: E402
from junk_model.english import english_model, known_words, word_entries  # noqa: E402
from junk_model.fit import Measures, fitted  # noqa: E402
from junk_model.languages import CODE, ENGLISH, POOLED, entries_of, grouped, languages_of, pooled  # noqa: E402
from junk_model.latex import latex  # noqa: E402
from junk_model.samples import CLEAN, Sample, samples, worse  # noqa: E402
from junk_model.sources import Text, half, texts, words  # noqa: E402
from junk_model.train import pieces, table_of  # noqa: E402

from samplewise.corpus.junk.coherence import STRUCTURE  # noqa: E402
from samplewise.corpus.junk.languages import Languages, judge  # noqa: E402
from samplewise.corpus.junk.letters import SCRIPTS, letters_of  # noqa: E402
from samplewise.corpus.junk.measures import KINDS, joined, measure  # noqa: E402
from samplewise.corpus.junk.model import GRID, PLACE, Model, model, write_model  # noqa: E402
from samplewise.corpus.junk.score import BANDS, COLUMNS, GROUPS  # noqa: E402
from samplewise.corpus.junk.trees import none  # noqa: E402

SIZE = 760_000
"""Entries of the table."""
MIN_MEAN = 4.2
"""Bits a character below which no language but English is taken to lie: what there is of small ones is all of a
kind.
"""


class Builder:
    """A model of one half of the sources, or of all (half None)."""

    def __init__(self, folder: Path, every: list[Text]) -> None:
        self.folder, self.every, self.by = folder, every, grouped(every)
        self.names, self.script = languages_of(self.by)
        self.latin = [name for name, own in zip(self.names, self.script, strict=True)
                      if SCRIPTS[own] == "latin" and name not in (ENGLISH, *CODE, POOLED)]  # fmt: skip
        self.mean = np.zeros(len(self.names))

    def build(self, part: int | None) -> Model:
        """All but what clean text gives."""
        found = [
            (number, entries_of(name, self._texts(name, part), self.folder)) for number, name in enumerate(self.names)
        ]
        prose = [
            text
            for text in self.every
            if text.language == ENGLISH and part in (None, half(text)) and text.source != "wn"
        ]
        own = pieces([text.text for text in prose], 8_000_000)
        listed = dict(sorted(words(self.folder, ENGLISH), key=lambda pair: (-pair[1], pair[0]))[:120_000])
        known = known_words(listed, own)
        shape = (len(KINDS), len(COLUMNS))
        return Model(
            table_of(found, SIZE, [word_entries(known)]), self.languages(), english_model(known, own),
            places={}, turns=np.zeros(STRUCTURE), usual=np.zeros(shape), scale=np.ones(shape),
            weight=np.zeros((2, shape[1])),
            trees=none(), border=np.zeros((GROUPS, len(BANDS) + 1)), tail=np.zeros((GROUPS, len(GRID))),
            version="2",
        )  # fmt: skip

    def languages(self) -> Languages:
        """With the means as they are known."""
        return Languages(tuple(self.names), self.script, self.mean, np.full(len(self.names), 0.4))

    def _texts(self, name: str, part: int | None) -> list[str]:
        if name == POOLED:
            return pooled(self.by, self.latin if part is None else self.latin[part::2])
        own = self.by[name]
        if part is None:
            return [text for each in own.values() for text in each]
        # what one package alone has is parted by document
        return own[part] if part in own else own[1 - part][::2]

    def means(self, models: dict[int, Model]) -> None:
        """Of every language: bits a character of clean text under the model of the other half; the higher of the
        two.
        """
        found: dict[str, list[float]] = {name: [] for name in self.names}
        for part, known in models.items():
            for name in self.names[:-1]:
                own = self.by[name].get(1 - part) or self.by[name][part][1::2]
                asked = [text[:600] for text in own if len(text) >= 300][::2][:200]
                letters = letters_of(asked)
                judged = judge(letters, known.table, known.languages)
                mine = judged.language == self.names.index(name)
                if mine.sum() >= 20:
                    found[name].append(
                        float((judged.excess[mine] * letters.size[mine]).sum() / letters.size[mine].sum())
                    )
        high = {name: max(values, default=4.3) for name, values in found.items()}
        low = {name: 0.0 if name in (ENGLISH, *CODE) else MIN_MEAN for name in self.names}
        self.mean = np.array([max(low[name], high[name]) for name in self.names])


def tables(folder: Path, every: list[Text]) -> Model:
    """A model that knows languages and words, and nothing yet of what is usual."""
    builder = Builder(folder, every)
    builder.means({part: builder.build(part) for part in (0, 1)})
    return builder.build(None)


def measures(known: Model, every: list[Sample], draw: random.Random) -> Measures:
    """What the model measures of the texts, clean and made worse."""
    made = [*((each, CLEAN, each.text) for each in every)]
    for part in (0, 1):
        made += worse([each for each in every if each.half == part], draw)
    return Measures(
        measure([text for _, _, text in made], known), np.array([kind for _, kind, _ in made]),
        np.array([each.sort for each, _, _ in made]), np.array([each.source for each, _, _ in made]),
        np.array([each.half for each, _, _ in made]),
    )  # fmt: skip


def both(one: Measures, other: Measures) -> Measures:
    """Of two sets of texts as one."""
    names = ("kind", "sort", "source", "half")
    rest = (np.concatenate([getattr(one, name), getattr(other, name)]) for name in names)
    return Measures(joined([one.measured, other.measured]), *rest)


def ordered(known: Model, every: list[Text]) -> Model:
    """With what tells the order of English sentences."""
    prose = [text for text in every if text.language == ENGLISH and text.source not in ("wn", "libreoffice")]
    place, turns = direction([(text.source, text.text) for text in prose])
    return replace(known, places=place, turns=turns)


def main() -> None:
    """Read, make or keep the tables, fit the rest, and write it."""
    folder, draw = Path(sys.argv[1]), random.Random(0)
    every = list(texts(folder))
    known = model() if "--keep-tables" in sys.argv else ordered(tables(folder, every), every)
    clean = samples([text for text in every if text.language in known.languages.names], list(documents(folder)), draw)
    further = latex(folder, draw_latex := random.Random(1))
    found = fitted(known, both(measures(known, clean, draw), measures(known, further, draw_latex)))
    write_model(PLACE, replace(found, version="2"))
    print(f"{PLACE}: {PLACE.stat().st_size:,} bytes, {len(clean) + len(further):,} clean texts")
    for place, name in enumerate(COLUMNS):
        print(f"{name:<16} {found.weight[:, place].round(2)}  usual {found.usual[:, place].round(2)}"
              f"  scale {found.scale[:, place].round(2)}")  # fmt: skip
    print("borders", found.border.round(2), "tails", found.tail[:, ::3].round(3), sep="\n")


if __name__ == "__main__":
    main()

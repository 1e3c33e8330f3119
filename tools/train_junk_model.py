"""Make samplewise/corpus/junk/model.npz from packages: `python tools/train_junk_model.py FOLDER`.

FOLDER holds the packages unpacked, one folder each, as tools/junk_model/README.md says. Nothing else is read: no text
that the measures are tested on takes part. Two models of half of the sources each judge what the other half was made
from, and what is usual, what counts how much and where the border lies comes from that. The same packages give the same
file; it takes ten minutes on one core.
"""

from __future__ import annotations

import random
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np

sys.path[:0] = [str(Path(__file__).parents[1]), str(Path(__file__).parents[1] / "bench"), str(Path(__file__).parent)]

import junk_noise  # noqa: E402
from junk_model.direction import direction  # noqa: E402
from junk_model.english import english_model, known_words, word_entries  # noqa: E402
from junk_model.fit import CLEAN, Sample, cut, usual, weights  # noqa: E402
from junk_model.languages import CODE, ENGLISH, POOLED, entries_of, grouped, languages_of, pooled  # noqa: E402
from junk_model.sources import Text, half, texts, words  # noqa: E402
from junk_model.train import pieces, table_of  # noqa: E402

from samplewise.corpus.junk.languages import Languages, judge  # noqa: E402
from samplewise.corpus.junk.letters import SCRIPTS, letters_of  # noqa: E402
from samplewise.corpus.junk.measures import KINDS, LATEX, Measured, measure  # noqa: E402
from samplewise.corpus.junk.model import PLACE, Model, write_model  # noqa: E402
from samplewise.corpus.junk.score import COLUMNS, surprises  # noqa: E402

SIZE = 760_000
"""Entries of the table."""
TAKEN = {"anarchism": 400, "foldoc": 250, "mail-easy": 350, "mail-spam": 350, "mail-hard": 100, "handbook": 200,
         "libreoffice": 200, "fortunes": 100, "jargon": 100}  # fmt: skip
"""English texts to develop with; of each kind of code 120, of each other language 15 a package."""
PROSE = ("rot13", "typos 5%", "shuffled words", "OCR 10%", "base64", "hex", "HTML boilerplate", "repetition", "splice",
         "reversed sentences")  # fmt: skip
ELSEWHERE = ("rot13", "OCR 10%", "base64", "hex", "HTML boilerplate", "repetition")
WEAK = ("splice", "reversed sentences")
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
        place, turns = direction([(text.source, text.text) for text in prose if text.source != "libreoffice"])
        shape = (len(KINDS), len(COLUMNS))
        return Model(
            table_of(found, SIZE, [word_entries(known)]), self.languages(), english_model(known, own), place, turns,
            usual=np.zeros(shape), scale=np.ones(shape), weight=np.zeros((2, shape[1])), border=np.zeros(len(KINDS)),
            version="1",
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


def samples(every: list[Text], draw: random.Random) -> list[Sample]:
    """Clean texts of all kinds; long documents give several."""
    places: dict[tuple[int, str, int], list[str]] = {}
    for text in every:
        group = 0 if text.language == ENGLISH else 3 if text.language == LATEX else 2 if text.language in CODE else 1
        name = text.source if group == 0 else text.language if group > 1 else f"{text.language} {text.source}"
        own = places.setdefault((group, name, 1 - half(text)), [])
        starts = [0, *range(2000, min(len(text.text) - 900, 40_000), 2000)]
        cuts = (text.text[start:].split("\n", 1)[-1] if start else text.text for start in starts)
        own += [part for part in map(str.strip, cuts) if len(part) >= 420]
    found = []
    for (group, name, part), own in sorted(places.items()):
        draw.shuffle(own)
        count = TAKEN.get(name, 0) if group == 0 else 120 if group > 1 else 15
        found += [Sample(group, name, part, cut(text, draw)) for text in own[:count]]
    return found


def fitted(models: dict[int, Model], every: list[Sample], draw: random.Random) -> dict[str, np.ndarray]:
    """Medians, scales, weights and borders, from clean texts and the same made worse."""
    parts: list[Measured] = []
    kinds: list[str] = []
    groups: list[int] = []
    for part, known in models.items():
        own = [each for each in every if each.half == part]
        pool = [each.text for each in own if each.group == 0]
        for kind in (CLEAN, *PROSE):
            asked = [each for each in own if kind == CLEAN or each.group == 0 or kind in ELSEWHERE]
            made = [each.text if kind == CLEAN else junk_noise.NAMED[kind](each.text, draw, pool) for each in asked]
            parts.append(measure(made, known))
            kinds += [kind] * len(made)
            groups += [each.group for each in asked]
    whole = Measured(
        *(np.concatenate([getattr(part, name) for part in parts]) for name in ("values", "kind", "language"))
    )
    kind, group = np.array(kinds), np.array(groups)
    clean = kind == CLEAN
    picked = Measured(whole.values[clean], whole.kind[clean], whole.language[clean])
    middle, scale = usual(picked, group[clean])
    known = replace(models[0], usual=middle, scale=scale)
    worth = np.ones(len(kind))
    for own in range(len(KINDS)):
        inside = group == own
        worth[inside & clean] = 1 / max(1, (inside & clean).sum())
        worth[inside & ~clean] = 1 / max(1, (inside & ~clean).sum())
    worth[np.isin(kind, WEAK)] *= 0.5
    weight, border = weights(surprises(whole, known), (~clean).astype(float), whole.kind, worth)
    return {"usual": middle, "scale": scale, "weight": weight, "border": border}


def main() -> None:
    """Read, build both halves, fit, build the whole, and write it."""
    folder, draw = Path(sys.argv[1]), random.Random(0)
    every = list(texts(folder))
    builder = Builder(folder, every)
    models = {part: builder.build(part) for part in (0, 1)}
    builder.means(models)
    models = {part: replace(known, languages=builder.languages()) for part, known in models.items()}
    found = fitted(models, samples([text for text in every if text.language in builder.by], draw), draw)
    write_model(PLACE, replace(builder.build(None), **found))
    print(f"{PLACE}: {PLACE.stat().st_size:,} bytes, {len(builder.names)} languages")
    for name, both in zip(COLUMNS, found["weight"].T, strict=True):
        print(f"{name:<16} {both[0]:6.2f} {both[1]:6.2f}  usual {found['usual'][:, COLUMNS.index(name)].round(2)}"
              f"  scale {found['scale'][:, COLUMNS.index(name)].round(2)}")  # fmt: skip
    print("border", found["border"].round(2))


if __name__ == "__main__":
    main()

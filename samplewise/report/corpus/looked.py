"""The samples that a report shows, with what their texts look like."""

from __future__ import annotations

from dataclasses import dataclass

from samplewise.corpus.duplicates import near_groups
from samplewise.corpus.junk import Cut, best_cut, judge_texts
from samplewise.corpus.junk.model import model
from samplewise.corpus.junk.score import groups as kinds_of
from samplewise.corpus.junk_filter import NO_LANGUAGE
from samplewise.corpus.survey import Row, Survey

SAMPLED, SHOWN = 3000, 60
"""Samples drawn at random; rows of a table of the hardest, the easiest and the most typical."""
CLIPPED = 300
"""Characters of a text that hovering shows."""


@dataclass(frozen=True)
class Seen:
    """A sample with what its text shows: junk, its score from 0 to 1, nan for what is too short to judge; is_junk,
    whether it reaches the border of the page; looks, what it then looks like, in words; language; copy: of another one
    shown.
    """

    row: Row
    junk: float
    is_junk: bool
    looks: tuple[str, ...]
    language: str
    copy: bool

    @property
    def told(self) -> str:
        """What the text looks like, for one cell of a table."""
        return ", ".join([*self.looks, *(["near-duplicate"] if self.copy else [])])


@dataclass(frozen=True)
class Looked:
    """sampled: at random from all. hardest, easiest, typical: by loss. groups: near-duplicates among all of them.
    cut: by junk, as the sampled ones have it.
    """

    sampled: list[Seen]
    hardest: list[Seen]
    easiest: list[Seen]
    typical: list[Seen]
    groups: list[list[Seen]]
    cut: Cut


def look(survey: Survey, median: float) -> Looked:
    """Draw samples, and measure and compare their texts. Scores without texts give no findings."""
    parts = [survey.sample(SAMPLED), survey.hardest(SHOWN), survey.easiest(SHOWN), survey.typical(SHOWN, median)]
    rows = list({row.id: row for part in parts for row in part}.values())
    texts = [row.text for row in rows]
    groups = near_groups(texts) if survey.has_text else []
    groups = [group for group in groups if rows[group[0]].text.strip()]
    copies = {place for group in groups for place in group}
    found = judge_texts(texts)
    drawn = len(parts[0])  # they come first in `rows`
    cut = best_cut(found.score[:drawn], kinds_of(found.measured)[:drawn], model())
    looks = found.looks_from(cut.border)
    names = model().languages.names
    seen = {
        row.id: Seen(
            row=row, junk=float(found.score[place]), is_junk=bool(found.score[place] >= cut.border),
            looks=looks[place], language=names[language] if language >= 0 else NO_LANGUAGE, copy=place in copies,
        )
        for place, (row, language) in enumerate(zip(rows, found.measured.language, strict=True))
    }  # fmt: skip
    sampled, hardest, easiest, typical = ([seen[row.id] for row in part] for part in parts)
    near = [[seen[rows[place].id] for place in group] for group in groups]
    return Looked(sampled=sampled, hardest=hardest, easiest=easiest, typical=typical, groups=near, cut=cut)


def nats(loss: float) -> tuple[float, str]:
    """A loss in a table: sorted by its value, shown to a thousandth."""
    return loss, f"{loss:.3f}"

"""The samples that a report shows, with what their texts look like."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from samplewise.corpus.duplicates import near_groups
from samplewise.corpus.junk import HIGH, LOW, Measures, flags, measure
from samplewise.corpus.survey import Row, Survey

SAMPLED, SHOWN = 3000, 60
"""Samples drawn at random; rows of a table of the hardest, the easiest and the most typical."""
CLIPPED = 300
"""Characters of a text that hovering shows."""


@dataclass(frozen=True)
class Seen:
    """A sample with its text's measures; looks: what it looks like, in words; copy: of another one shown."""

    row: Row
    measures: Measures
    looks: tuple[str, ...]
    copy: bool

    @property
    def low_junk(self) -> bool:
        """Whether the text repeats itself or another one."""
        return self.copy or any(name in LOW for name in self.looks)

    @property
    def high_junk(self) -> bool:
        """Whether the text looks garbled, encoded or foreign."""
        return any(name in HIGH for name in self.looks)

    @property
    def told(self) -> str:
        """What the text looks like, for one cell of a table."""
        return ", ".join([*self.looks, *(["near-duplicate"] if self.copy else [])])


@dataclass(frozen=True)
class Looked:
    """sampled: at random from all. hardest, easiest, typical: by loss. groups: near-duplicates among all of them."""

    sampled: list[Seen]
    hardest: list[Seen]
    easiest: list[Seen]
    typical: list[Seen]
    groups: list[list[Seen]]


def look(survey: Survey, median: float) -> Looked:
    """Draw samples, and measure and compare their texts. Scores without texts give no findings."""
    parts = [survey.sample(SAMPLED), survey.hardest(SHOWN), survey.easiest(SHOWN), survey.typical(SHOWN, median)]
    rows = list({row.id: row for part in parts for row in part}.values())
    texts = [row.text for row in rows]
    measures = measure(texts)
    groups = near_groups(texts) if survey.has_text else []
    groups = [group for group in groups if rows[group[0]].text.strip()]
    copies = {place for group in groups for place in group}
    looks = flags(texts, measures) if survey.has_text else [[] for _ in rows]
    seen = {
        row.id: Seen(row, own, tuple(some), place in copies)
        for place, (row, own, some) in enumerate(zip(rows, measures, looks, strict=True))
    }
    sampled, hardest, easiest, typical = ([seen[row.id] for row in part] for part in parts)
    return Looked(sampled, hardest, easiest, typical, [[seen[rows[place].id] for place in group] for group in groups])


def nats(loss: float) -> tuple[float, str]:
    """A loss in a table: sorted by its value, shown to a thousandth."""
    return loss, f"{loss:.3f}"


def share(seen: Sequence[Seen], what: str) -> tuple[int, int]:
    """(those with the property `what`, all)."""
    return sum(getattr(each, what) for each in seen), len(seen)

"""Exact order statistics of a table that need not fit into memory: where the first so many rows of a ranking end.

A ranking is by falling score, ties to the smaller id. Rounds of histograms close in on the row at the border: each is
one pass over the table with some thousand counters, and the last few rows are sorted. No value is ever rounded.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

_KINDS = {str: "VARCHAR", bool: "BOOLEAN", int: "BIGINT", float: "DOUBLE"}
"""Types of DuckDB by Python's."""
BINS = 2**16
"""Counters of a pass, over all parts together."""
MAX_BINS = 2**12
"""Of a part: enough for 4 billion rows in one pass, if they lie evenly, and small enough for the processor's cache."""
FEW = 2**20
"""Rows that are sorted in memory at the end, all parts together."""

FILTERED = 4
"""Ranges of scores that a filter names at most."""


@dataclass(frozen=True)
class Cut:
    """The last of the first so many rows: with it are those of a higher score, or of the same and an id up to `id`.

    Where it does not part rows of one score, `id` is `ANY`, and ids need not be read to tell what lies before it.
    """

    score: float
    id: int


ANY = 2**63 - 1
NOTHING, EVERYTHING = Cut(math.inf, ANY), Cut(-math.inf, ANY)


class Part(NamedTuple):
    """The lowest and the highest score of its rows, the sum of their measures, and how many there are."""

    low: float
    high: float
    total: float
    rows: int


@dataclass
class _Border:
    """Where a cut lies: scores from low to high of its part, `left` of the amount from `high` down."""

    part: Any
    low: float
    high: float
    left: float
    rows: int

    @property
    def span(self) -> tuple[Any, float, float]:
        return self.part, self.low, self.high


class Ranking:
    """Rows by falling score, part by part, ties by id. parts: each part's bounds, found in one pass.

    rows: SQL of a table with the columns part, id and those in `score` and `measure`, SQL of a finite double and of a
    number above 0. bins, few: counters of a pass; rows sorted in memory at the end.
    """

    def __init__(
        self, connection: Any, rows: str, score: str, measure: str = "1", *, bins: int = BINS, few: int = FEW
    ) -> None:
        self.connection, self.bins, self.few = connection, bins, few
        self.named = f"(SELECT part, id, {score} AS score, {measure} AS measure FROM {rows})"
        found = connection.sql(
            f"SELECT part, min(score), max(score), sum(measure), count(*) FROM {self.named} GROUP BY part ORDER BY part"
        )
        self.parts = {part: Part(*bounds) for part, *bounds in found.fetchall()}

    def cuts(self, *amounts: Mapping[Any, float]) -> list[dict[Any, Cut]]:
        """For each of the amounts, by part: the cut after the longest prefix whose measures sum to at most that much.

        All are found together. With a measure of 1, a prefix has exactly that many rows.
        """
        found: list[dict[Any, Cut]] = [dict.fromkeys(wanted, NOTHING) for wanted in amounts]
        open_: dict[tuple[int, Any], _Border] = {}
        for number, wanted in enumerate(amounts):
            for part, (low, high, total, rows) in self.parts.items():
                if wanted.get(part, 0) >= total:
                    found[number][part] = EVERYTHING
                elif wanted.get(part, 0) > 0:
                    open_[number, part] = _Border(part, low, high, wanted[part], rows)
        borders = list(open_.values())
        while sum(rows for *_, rows in _spans(borders)) > self.few and any(own.low < own.high for own in borders):
            self._narrow(borders)
        if borders:
            for (number, part), cut in zip(open_, self._settle(borders), strict=True):
                found[number][part] = cut
        return found

    def _put_spans(self, borders: Sequence[_Border]) -> list[int]:
        """Make the table `spans`, each range of scores once; the number of each border's."""
        spans = _spans(borders)
        part, low, high, _ = zip(*spans, strict=True)
        columns = {"span": list(range(len(spans))), "part": part, "low": low, "high": high}
        width = [(end - start) or 1.0 for start, end in zip(low, high, strict=True)]
        put_table(self.connection, "spans", {**columns, "width": width})
        number = {span[:3]: place for place, span in enumerate(spans)}
        return [number[own.span] for own in borders]

    def _narrow(self, borders: Sequence[_Border]) -> None:
        """One pass: every range becomes the bin of it that the border lies in."""
        spans = self._put_spans(borders)
        bins = min(MAX_BINS, max(16, self.bins // (max(spans) + 1)))
        place = f"((score - low) / width * {bins})::INTEGER"
        found = self.connection.sql(f"""
            SELECT span, {place} AS bin, min(score), max(score), sum(measure), count(*)
            FROM {self.named} JOIN spans USING (part) WHERE score BETWEEN low AND high
            GROUP BY span, bin ORDER BY bin DESC
        """).fetchall()
        filled: dict[int, list[Part]] = {}
        for span, _, *bounds in found:
            filled.setdefault(span, []).append(Part(*bounds))
        for own, span in zip(borders, spans, strict=True):
            for each in filled[span]:
                if own.left <= each.total:
                    own.low, own.high, own.rows = each.low, each.high, each.rows
                    break
                own.left -= each.total

    def _near(self, borders: Sequence[_Border]) -> str:
        """The rows, less those that no join need look at: files skip by numbers, not by joins."""
        spans = _spans(borders)
        if len(spans) > FILTERED:
            return self.named
        ranges = " OR ".join(f"score BETWEEN '{low!r}'::DOUBLE AND '{high!r}'::DOUBLE" for _, low, high, _ in spans)
        return f"(SELECT * FROM {self.named} WHERE {ranges})"

    def _settle(self, borders: Sequence[_Border]) -> list[Cut]:
        """Sort the rows that are left and count through them."""
        spans, numbers = self._put_spans(borders), list(range(len(borders)))
        put_table(self.connection, "borders", {"border": numbers, "span": spans, "amount": [b.left for b in borders]})
        found = self.connection.execute(f"""
            SELECT border, arg_max(score, used) FILTER (used <= amount), arg_max(id, used) FILTER (used <= amount),
                max(score) FILTER (used > amount)
            FROM (
                SELECT span, score, id,
                    sum(measure) OVER (PARTITION BY span ORDER BY score DESC, id ROWS UNBOUNDED PRECEDING) AS used
                FROM {self._near(borders)} JOIN spans USING (part) WHERE score BETWEEN low AND high
            ) JOIN borders USING (span) GROUP BY border ORDER BY border
        """).fetchall()
        return [_cut(*each, above=own.high) for (_, *each), own in zip(found, borders, strict=True)]


def _spans(borders: Iterable[_Border]) -> list[tuple[Any, float, float, int]]:
    """The ranges of scores that borders lie in, each once, with its rows."""
    return list(dict.fromkeys((*own.span, own.rows) for own in borders))


def _cut(score: float | None, name: int | None, behind: float | None, *, above: float) -> Cut:
    """After the last row that fits, or before the highest score where none does. behind: the score of the next row."""
    if score is None or name is None:
        return Cut(math.nextafter(above, math.inf), ANY)
    return Cut(score, name if behind == score else ANY)


def put_table(connection: Any, name: str, columns: Mapping[str, Sequence[Any]]) -> None:
    """Make a temporary table of columns of equal length: numbers, texts or nulls.

    As lists: to register a table, DuckDB imports pandas first, which takes longer than a selection.
    """
    made = ", ".join(f"unnest(?::{_kind(values)}[]) AS {column}" for column, values in columns.items())
    connection.execute(f"CREATE OR REPLACE TEMP TABLE {name} AS SELECT {made}", [list(v) for v in columns.values()])


def _kind(values: Sequence[Any]) -> str:
    kinds = {type(value) for value in values if value is not None}
    kinds = kinds or {int}
    return "DOUBLE" if kinds == {int, float} else _KINDS[kinds.pop()]

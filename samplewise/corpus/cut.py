"""Exact order statistics of a table that need not fit into memory: where the first so many rows of a ranking end.

A ranking is by falling score, ties to the smaller id. Rounds of histograms close in on the row at the border: each is
one pass over the table with some thousand counters, and the last few rows are sorted. No value is ever rounded.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

_KINDS = {str: "VARCHAR", bool: "BOOLEAN", int: "BIGINT", float: "DOUBLE"}
"""Types of DuckDB by Python's."""
BINS = 2**16
"""Counters of a pass, over all parts together."""
MAX_BINS = 2**12
"""Of a part: enough for 4 billion rows in one pass, if they lie evenly, and small enough for the processor's cache."""
FEW = 2**20
"""Rows that are sorted in memory at the end, all parts together."""


@dataclass(frozen=True)
class Cut:
    """The last of the first so many rows: with it are those of a higher score, or of the same and a smaller id."""

    score: float
    id: int


NOTHING, EVERYTHING = Cut(math.inf, -1), Cut(-math.inf, 2**63 - 1)


@dataclass
class _Range:
    """Where a part's border lies: scores from low to high, below which `before` of the amount is used up."""

    low: float
    high: float
    amount: float
    before: float = 0.0
    rows: int = 0


def find_cuts(
    connection: Any, rows: str, score: str, amounts: Mapping[Any, float], measure: str = "1", *,
    costly: bool = False, bins: int = BINS, few: int = FEW,
) -> dict[Any, Cut]:  # fmt: skip
    """For each part, the cut after its longest prefix whose measures sum to at most the part's amount.

    rows: SQL of a table with the columns part, id and those in `score` and `measure`, SQL of a double and of a number
    above 0 (1: the prefix has exactly that many rows). costly: compute scores once and hold them, 24 bytes a
    row, in memory or on disk. bins, few: counters of a pass; rows sorted in memory at the end.
    """
    named = f"(SELECT part, id, {score} AS score, {measure} AS measure FROM {rows})"
    if costly:
        connection.execute(f"CREATE OR REPLACE TEMP TABLE drawn AS SELECT * FROM {named}")
        named = "drawn"
    cuts: dict[Any, Cut] = {part: NOTHING for part, amount in amounts.items() if amount <= 0}
    open_: dict[Any, _Range] = {}
    bounds = connection.sql(f"SELECT part, min(score), max(score), sum(measure), count(*) FROM {named} GROUP BY part")
    for part, low, high, total, count in bounds.fetchall():
        if amounts.get(part, 0) >= total:
            cuts[part] = EVERYTHING
        elif amounts.get(part, 0) > 0:
            open_[part] = _Range(low, high, amounts[part], 0.0, count)
    while sum(r.rows for r in open_.values()) > few and any(r.low < r.high for r in open_.values()):
        _narrow(connection, named, open_, bins)
    return cuts | (_settle(connection, named, open_) if open_ else {})


def _put_ranges(connection: Any, ranges: Mapping[Any, _Range]) -> None:
    columns = {name: [getattr(own, name) for own in ranges.values()] for name in ("low", "high", "before", "amount")}
    put_table(connection, "ranges", {"part": list(ranges), **columns})


def _narrow(connection: Any, named: str, ranges: dict[Any, _Range], bins: int) -> None:
    """One pass: every range becomes the bin of it that the border lies in."""
    _put_ranges(connection, ranges)
    bins = min(MAX_BINS, max(16, bins // len(ranges)))
    place = f"CASE WHEN high > low THEN least({bins - 1}, floor((score - low) / (high - low) * {bins})) ELSE 0 END"
    found = connection.sql(f"""
        SELECT part, {place}::INTEGER AS bin, min(score), max(score), sum(measure), count(*)
        FROM {named} JOIN ranges USING (part) WHERE score BETWEEN low AND high GROUP BY part, bin ORDER BY bin DESC
    """).fetchall()
    done: set[Any] = set()
    for part, _, low, high, total, count in found:
        own = ranges[part]
        if part in done:
            continue
        if own.before + total >= own.amount:
            own.low, own.high, own.rows = low, high, count
            done.add(part)
        else:
            own.before += total


def _settle(connection: Any, named: str, ranges: Mapping[Any, _Range]) -> dict[Any, Cut]:
    """Sort the rows that are left and count through them."""
    _put_ranges(connection, ranges)
    found = connection.execute(f"""
        SELECT part, arg_max(score, used), arg_max(id, used)
        FROM (
            SELECT part, score, id, before, amount,
                sum(measure) OVER (PARTITION BY part ORDER BY score DESC, id ROWS UNBOUNDED PRECEDING) AS used
            FROM {named} JOIN ranges USING (part) WHERE score BETWEEN low AND high
        ) WHERE before + used <= amount GROUP BY part
    """).fetchall()
    inside = {part: Cut(score, name) for part, score, name in found}
    return {part: inside.get(part, Cut(own.high, -1)) for part, own in ranges.items()}


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

"""Exact order statistics of a table that need not fit into memory: where the first so many rows of a ranking end.

A ranking is by falling score, ties to the smaller id. Rounds of histograms close in on the row at the border: each is
one pass over the table with some thousand counters, and the last few rows are sorted. No value is ever rounded.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

BINS = 2**16
"""Counters of a pass, over all parts together."""
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


def _register(connection: Any, ranges: Mapping[Any, _Range]) -> None:
    import pyarrow as pa

    columns = {
        "part": list(ranges), "low": [r.low for r in ranges.values()], "high": [r.high for r in ranges.values()]
    }  # fmt: skip
    connection.register("ranges", pa.table(columns))


def _narrow(connection: Any, named: str, ranges: dict[Any, _Range], bins: int) -> None:
    """One pass: every range becomes the bin of it that the border lies in."""
    _register(connection, ranges)
    bins = max(16, bins // len(ranges))
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
    _register(connection, ranges)
    found = connection.sql(f"""
        SELECT part, score, id, measure FROM {named} JOIN ranges USING (part) WHERE score BETWEEN low AND high
        ORDER BY part, score DESC, id
    """).fetchnumpy()
    parts = found["part"]
    starts = np.flatnonzero(np.r_[True, parts[1:] != parts[:-1]])
    cuts: dict[Any, Cut] = {}
    for start, end in zip(starts, [*starts[1:], len(parts)], strict=True):
        part = parts[start].item() if isinstance(parts[start], np.generic) else parts[start]
        own = ranges[part]
        used = own.before + np.cumsum(found["measure"][start:end].astype(np.float64))
        last = start + int(np.searchsorted(used, own.amount, side="right")) - 1
        here = Cut(float(found["score"][last]), int(found["id"][last]))
        cuts[part] = here if last >= start else Cut(own.high, -1)
    return cuts

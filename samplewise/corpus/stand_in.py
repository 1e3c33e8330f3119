"""How well the losses of a small model stand in for another's: by their ranks, on the windows that both have scored."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

from samplewise.corpus.draw import define
from samplewise.corpus.store import Scores
from samplewise.corpus.within import quoted

MIN_PAIRS = 100
"""Windows below which nothing is said."""
MOST_PAIRS = 200_000
"""Windows looked at, drawn by their ids: more change the third digit of nothing."""
TENTH = 0.1
SALT = 17


@dataclass(frozen=True)
class StandIn:
    """The order of windows by `key` beside that by the column `name`. windows: with both.

    spearman: their rank correlation; low, high: its 95% interval (Bonett and Wright, 2000). hardest: of the hardest
    tenth by `name`, the share that is among the hardest tenth by `key`; easiest: likewise.
    """

    key: str
    name: str
    windows: int
    spearman: float
    low: float
    high: float
    hardest: float
    easiest: float

    def __str__(self) -> str:
        return (
            f"{self.key} for {self.name}: Spearman {self.spearman:.3f} ({self.low:.3f} to {self.high:.3f}) on "
            f"{self.windows:,} windows; of the hardest tenth by {self.name}, {self.hardest:.0%} are among the hardest "
            f"tenth by {self.key}"
        )


def stand_ins(connection: Any, scores: Scores, *, sampled: bool = False) -> list[StandIn]:
    """One for every column that another model has given, in the order of their names; none for few windows.

    connection: with the view `scores`. sampled: only columns of `score --sample`, which cost a join with few rows.
    """
    key = scores.key
    wanted = {"model", "sample"} if sampled else {"model"}
    names = sorted(name for name, manifest in scores.added.items() if wanted <= manifest.fingerprints.keys())
    if not names:
        return []
    define(connection)
    found = (_compared(connection, scores, key, name) for name in names)
    return [each for each in found if each is not None]


def _compared(connection: Any, scores: Scores, key: str, name: str) -> StandIn | None:
    sampled = scores.added[name].fingerprints.get("sample")
    share = 1.0 if sampled else min(1.0, MOST_PAIRS / max(1, len(scores)))
    drawn = "TRUE" if share >= 1 else f"sw_draw(id, {SALT}::UBIGINT, 0::UBIGINT) < {share!r}"
    (count, spearman, hardest, easiest), = connection.execute(f"""
        WITH pairs AS (
            SELECT TRY_CAST({quoted(key)} AS DOUBLE) AS a, TRY_CAST({quoted(name)} AS DOUBLE) AS b FROM scores
            WHERE {drawn} AND isfinite(a) AND isfinite(b)
        ), ranked AS (
            SELECT rank() OVER (ORDER BY a) + (count(*) OVER (PARTITION BY a) - 1) / 2 AS ra,
                rank() OVER (ORDER BY b) + (count(*) OVER (PARTITION BY b) - 1) / 2 AS rb, count(*) OVER () AS n
            FROM pairs
        )
        SELECT count(*), corr(ra, rb),
            count(*) FILTER (ra > {1 - TENTH} * n AND rb > {1 - TENTH} * n) / count(*) FILTER (rb > {1 - TENTH} * n),
            count(*) FILTER (ra <= {TENTH} * n AND rb <= {TENTH} * n) / count(*) FILTER (rb <= {TENTH} * n)
        FROM ranked
    """).fetchall()  # fmt: skip
    if count < MIN_PAIRS or spearman is None or not math.isfinite(spearman) or None in (hardest, easiest):
        return None
    low, high = _interval(spearman, count)
    return StandIn(key, name, windows=count, spearman=spearman, low=low, high=high, hardest=hardest, easiest=easiest)


def _interval(spearman: float, count: int) -> tuple[float, float]:
    """Of 95%, by Fisher's transformation with the variance for ranks."""
    if abs(spearman) > 1 - 1e-12:
        return spearman, spearman
    half = 1.96 * math.sqrt((1 + spearman**2 / 2) / (count - 3))
    return math.tanh(math.atanh(spearman) - half), math.tanh(math.atanh(spearman) + half)

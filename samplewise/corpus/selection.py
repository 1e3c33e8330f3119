"""A selection: what was asked for, what it keeps by part, and a random one of the same size."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from samplewise.core.rule import Order, Rule
from samplewise.corpus.candidates import Candidates, Unit
from samplewise.corpus.cut import ANY, EVERYTHING, NOTHING, Cut, Ranking, put_table
from samplewise.corpus.draw import draw
from samplewise.corpus.quotas import Quotas
from samplewise.corpus.sums import folds_sql


@dataclass(frozen=True)
class Choice:
    """What is asked for. Its parts act in this order; each sees only what those before it left in.

    drop_junk: leave out samples of a junk score of at least this (`junk_filter`); None: none.
    drop_shared: leave out texts of which at least this share are lines that many documents have (`shared_lines`).
    above, below: keep keys of at least `above` and at most `below`.
    rule: applied to the whole corpus, or to each part of it, as to one step (its first).
    tokens: a budget. Samples are taken in the order `take` until the next would exceed it. Over parts it is shared out
        in proportion to their tokens, or as `quotas` say.
    by: the key that ranks: "loss", "excess", "ratio", or a column. within: what parts there are; see `make_candidates`.
    unit: what is chosen: windows, or documents by their windows' mean key weighted by tokens.
    seed: of everything random here: `take="random"` and the control.
    per: the parts that the budget is divided over; None for those of `within`.
    """

    rule: Rule | None = None
    drop_junk: float | None = None
    drop_shared: float | None = None
    above: float | None = None
    below: float | None = None
    tokens: int | None = None
    take: Order = "highest"
    by: str = "loss"
    within: str | None = None
    unit: Unit = "window"
    seed: int = 0
    per: str | None = None
    quotas: Quotas | None = None

    @property
    def parts(self) -> str | None:
        """What the parts of a report are made of: those of the budget, if it has its own."""
        return self.within if self.per is None else self.per


class Total(NamedTuple):
    """Of a part: samples and tokens of all candidates and of those kept; sums of their keys; the range of keys kept."""

    samples: int
    tokens: int
    kept: int
    kept_tokens: int
    key: float
    kept_key: float
    least: float | None
    most: float | None


def _total(kept: tuple[Any, ...], rest: tuple[Any, ...]) -> Total:
    """Of two rows of samples, tokens, the range of keys, and what their keys' sum is made of."""
    samples, tokens, least, most, *folds = kept
    every = sum(own + other for own, other in zip(folds, rest[4:], strict=True))
    return Total(
        samples=samples + rest[0], tokens=tokens + rest[1], kept=samples, kept_tokens=tokens, key=every,
        kept_key=sum(folds), least=least, most=most,
    )  # fmt: skip


@dataclass
class Selection:
    """A choice carried out. view: the name of a view over all candidates, with the columns kept and weight.

    too_small: parts too small for the rule to act on, with their samples; nothing else is done about them.
    weighs: whether the samples kept may have different weights.
    """

    connection: Any
    choice: Choice
    candidates: Candidates
    view: str
    too_small: dict[Any, int] = field(default_factory=dict)
    weighs: bool = False
    _totals: dict[tuple[str, str], dict[Any, Total]] = field(default_factory=dict)

    @property
    def budget_part(self) -> str:
        """The column of the parts that the budget is divided over."""
        return "part" if self.choice.per is None else "quota"

    def totals(self, part: str = "part") -> dict[Any, Total]:
        """By the column `part`; counted in one pass, once a view."""
        if (self.view, part) not in self._totals:
            self._totals[self.view, part] = self._counted(part)
        return self._totals[self.view, part]

    def _counted(self, part: str) -> dict[Any, Total]:
        folds = ", ".join(folds_sql("key", self.candidates.largest, self.candidates.samples))
        found = self.connection.sql(f"""
            SELECT {part}, kept, count(*), sum(n_tokens)::BIGINT, min(key), max(key), {folds}
            FROM {self.view} GROUP BY {part}, kept ORDER BY {part}, kept
        """).fetchall()  # by what is kept too: several times faster than sums of what is kept alone
        groups: dict[Any, dict[bool, tuple[Any, ...]]] = {}
        for name, kept, *own in found:
            groups.setdefault(name, {})[kept] = tuple(own)
        nothing = (0, 0, None, None, *[0.0] * (len(found[0]) - 6))
        return {name: _total(own.get(True, nothing), own.get(False, nothing)) for name, own in groups.items()}

    def control(self) -> Selection:
        """A random selection of the same size: as many samples of each part, or, under a budget, as many tokens.

        The one that `random_keep` makes in its second step: its first may be part of the rule.
        """
        budget = self.choice.tokens is not None or self.choice.quotas is not None
        part = self.budget_part
        sizes = {name: own.kept_tokens if budget else own.kept for name, own in self.totals(part).items()}
        start, score = ranked(
            self.connection, start_view(self.connection, "control", "TRUE"), f"-{draw(self.choice.seed, step=1)}"
        )
        ranking = Ranking(self.connection, in_parts(start, part), score, "n_tokens" if budget else "1")
        view = cut_view(self.connection, start, score, None, ranking.cuts(sizes)[0], part)
        return Selection(self.connection, self.choice, self.candidates, view)


def start_view(connection: Any, name: str, kept: str) -> str:
    """A view of all candidates with the columns kept, an SQL condition, and weight, 1."""
    connection.execute(
        f"CREATE OR REPLACE TEMP VIEW {name} AS SELECT *, ({kept}) AS kept, 1.0::DOUBLE AS weight FROM candidates"
    )
    return name


def in_parts(view: str, part: str, condition: str = "TRUE") -> str:
    """SQL of the rows of a view with another column as their part."""
    columns = "*" if part == "part" else f"* REPLACE ({part} AS part)"
    return f"(SELECT {columns} FROM {view} WHERE {condition})"


def ranked(connection: Any, view: str, score: str) -> tuple[str, str]:
    """The view and the score to rank it by. Random numbers cost more than all else: they are drawn once, and held with
    all columns, some 80 bytes a row, in memory or on disk.
    """
    if score in ("key", "-key"):
        return view, score
    held, drawn = f"{view}_drawn", f"{view}_number"
    connection.execute(f"CREATE OR REPLACE TEMP TABLE {held} AS SELECT *, {score} AS {drawn} FROM {view}")
    return held, drawn


def cut_view(
    connection: Any, view: str, score: str, first: Mapping[Any, Cut] | None, last: Mapping[Any, Cut], part: str = "part"
) -> str:
    """A view that keeps, of what `view` keeps, the rows after `first` (None: all) and up to `last`.

    part: the column the cuts go by.
    """
    name, parts = f"{view}_cut", list(last)
    columns: dict[str, list[Any]] = {part: parts}
    tests = ["kept"]
    for place, cuts, needless in (("last", last, EVERYTHING), ("first", first or {}, NOTHING)):
        if all(cut == needless for cut in cuts.values()):
            continue
        columns[f"{place}_score"] = [cuts[each].score for each in parts]
        inside = f"{score} >= {_value(f'{place}_score', columns)}"
        if any(cut.id != ANY for cut in cuts.values()):  # or no id need be read
            columns[f"{place}_id"] = [cuts[each].id for each in parts]
            more, end = (_value(f"{place}_{what}", columns) for what in ("score", "id"))
            inside = f"({score} > {more} OR ({score} = {more} AND id <= {end}))"
        tests.append(inside if place == "last" else f"NOT {inside}")
    rows, added = view, ""
    if len(parts) > 1:
        put_table(connection, f"{name}s", columns)
        rows = f"{view} LEFT JOIN {name}s USING ({part})"  # parts of which nothing is kept have no cut
        added = ", ".join(each for each in columns if each != part)
    exclude = f" EXCLUDE ({added})" if added else ""
    connection.execute(f"""
        CREATE OR REPLACE TEMP VIEW {name} AS SELECT *{exclude} REPLACE ({" AND ".join(tests)} AS kept) FROM {rows}
    """)
    return name


def _value(name: str, columns: dict[str, list[Any]]) -> str:
    """SQL of a part's number: of a lone part itself, since a join takes time, and leaves rows in no known order."""
    values = columns[name]
    return name if len(values) > 1 else f"'{values[0]!r}'::{'BIGINT' if name.endswith('_id') else 'DOUBLE'}"

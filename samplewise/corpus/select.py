"""Which samples of a scored corpus to train on: thresholds, a rule, a token budget, one after the other, and a control.

Nothing here needs the model, and rules made of ranks need no memory for the corpus either.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from tempfile import TemporaryDirectory
from typing import Any, NamedTuple

from samplewise.core.errors import SamplewiseError
from samplewise.core.rule import Order, Ranks, Rule
from samplewise.corpus.amounts import memory_bytes
from samplewise.corpus.candidates import Candidates, Unit, make_candidates
from samplewise.corpus.cut import EVERYTHING, NOTHING, Cut, find_cuts
from samplewise.corpus.draw import draw
from samplewise.corpus.store import Scores, readable
from samplewise.corpus.weigh import weigh


@dataclass(frozen=True)
class Choice:
    """What is asked for. Its parts act in this order; each sees only what those before it left in.

    above, below: keep keys of at least `above` and at most `below`.
    rule: applied to the whole corpus, or to each part of it, as to one step (its first).
    tokens: a budget. Samples are taken in the order `take` until the next would exceed it. Over parts it is shared out
        in proportion to their tokens.
    by: the key that ranks: "loss", "excess" (loss − reference), or a column. within: see `make_candidates`.
    unit: what is chosen: windows, or documents by their windows' mean key weighted by tokens.
    seed: of everything random here: `take="random"` and the control.
    """

    rule: Rule | None = None
    above: float | None = None
    below: float | None = None
    tokens: int | None = None
    take: Order = "highest"
    by: str = "loss"
    within: str | None = None
    unit: Unit = "window"
    seed: int = 0


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
    _totals: dict[str, dict[Any, Total]] = field(default_factory=dict)

    def totals(self) -> dict[Any, Total]:
        """By part; counted in one pass, once a view."""
        if self.view not in self._totals:
            self._totals[self.view] = self._counted()
        return self._totals[self.view]

    def _counted(self) -> dict[Any, Total]:
        found = self.connection.sql(f"""
            SELECT part, count(*), sum(n_tokens)::BIGINT, count(kept_key), coalesce(sum(kept_tokens), 0)::BIGINT,
                sum(key), coalesce(sum(kept_key), 0), min(kept_key), max(kept_key)
            FROM (
                SELECT part, key, n_tokens, CASE WHEN kept THEN key END AS kept_key,
                    CASE WHEN kept_key IS NOT NULL THEN n_tokens END AS kept_tokens
                FROM {self.view}
            ) GROUP BY part ORDER BY part
        """).fetchall()
        return {part: Total(*counts) for part, *counts in found}

    def control(self) -> Selection:
        """A random selection of the same size: as many samples of each part, or, under a budget, as many tokens.

        The one that `random_keep` makes in its second step: its first may be part of the rule.
        """
        budget = self.choice.tokens is not None
        sizes = {part: own.kept_tokens if budget else own.kept for part, own in self.totals().items()}
        start = _start(self.connection, "control", "TRUE")
        score = f"-{draw(self.choice.seed, step=1)}"
        cuts = find_cuts(self.connection, start, score, sizes, "n_tokens" if budget else "1", costly=True)
        view = _cut_view(self.connection, start, score, dict.fromkeys(sizes, NOTHING), cuts)
        return Selection(self.connection, self.choice, self.candidates, view)


@contextmanager
def select(scores: Scores, choice: Choice, *, memory: str = "2GB", threads: int | None = None) -> Iterator[Selection]:
    """The selection, as long as the block lasts.

    memory: what DuckDB may hold (beyond it, it writes to the system's folder for temporary files), and what a rule that
        needs all losses at once may take.
    Errors: SamplewiseError for columns that are not there, for rules that need more samples, for an empty selection.
    """
    fields = choice.rule.required_fields if choice.rule else frozenset()
    with (
        readable(scores.place),
        TemporaryDirectory(prefix="samplewise-") as temporary,
        scores.connect(memory=memory, threads=threads, temporary=temporary) as connection,
    ):
        candidates = make_candidates(connection, scores, choice.by, choice.within, choice.unit, fields)
        chosen = Selection(connection, choice, candidates, _start(connection, "stage", _thresholds(choice)))
        if choice.rule is not None:
            _apply(chosen, choice.rule, memory_bytes(memory))
        if choice.tokens is not None:
            _spend(chosen, choice.tokens)
        if not any(own.kept for own in chosen.totals().values()):
            raise SamplewiseError(
                "selection", expected="at least one sample", got=f"none of {candidates.samples:,}",
                remedy="Loosen the thresholds, the rule or the budget.",
            )  # fmt: skip
        yield chosen


def _start(connection: Any, name: str, kept: str) -> str:
    connection.execute(
        f"CREATE OR REPLACE TEMP VIEW {name} AS SELECT *, ({kept}) AS kept, 1.0::DOUBLE AS weight FROM candidates"
    )
    return name


def _thresholds(choice: Choice) -> str:
    parts = [f"key {sign} '{value!r}'::DOUBLE" for sign, value in ((">=", choice.above), ("<=", choice.below))
             if value is not None]  # fmt: skip
    return " AND ".join(parts) or "TRUE"


def _apply(chosen: Selection, rule: Rule, memory: int) -> None:
    if rule.ranks is None:
        chosen.view = weigh(chosen.connection, chosen.view, rule, memory)
        chosen.weighs = True
        return
    for stage in rule.ranks:
        _keep_ranks(chosen, stage, rule)


def _keep_ranks(chosen: Selection, stage: Ranks, rule: Rule) -> None:
    counts = {part: own.kept for part, own in chosen.totals().items()}
    small = {part: n for part, n in counts.items() if n < stage.min_samples}
    if small and chosen.choice.within is None:
        raise SamplewiseError(
            "rule", expected=f"at least {stage.min_samples} samples for {rule}", got=f"{sum(counts.values())}",
            remedy="Raise the shares in the rule, or select from more samples.",
        )  # fmt: skip
    chosen.too_small |= small
    intervals = {part: stage.interval(n) for part, n in counts.items()}
    score = _score(stage.order, stage.seed)
    rows = f"(SELECT * FROM {chosen.view} WHERE kept)"
    costly = stage.order == "random"
    first = _cuts(chosen, rows, score, {part: first for part, (first, _) in intervals.items()}, counts, costly)
    last = _cuts(chosen, rows, score, {part: last for part, (_, last) in intervals.items()}, counts, costly)
    chosen.view = _cut_view(chosen.connection, chosen.view, score, first, last)


def _cuts(
    chosen: Selection, rows: str, score: str, amounts: dict[Any, int], counts: dict[Any, int], costly: bool
) -> dict[Any, Cut]:
    """The cuts of a stage, without a pass if there is nothing to find."""
    if all(amount <= 0 for amount in amounts.values()):
        return dict.fromkeys(amounts, NOTHING)
    if all(amount >= counts[part] for part, amount in amounts.items()):
        return dict.fromkeys(amounts, EVERYTHING)
    return find_cuts(chosen.connection, rows, score, amounts, costly=costly)


def _spend(chosen: Selection, budget: int) -> None:
    tokens = {part: own.kept_tokens for part, own in chosen.totals().items()}
    total = sum(tokens.values())
    if total <= budget:
        return
    amounts = {part: budget * own // total for part, own in tokens.items()}
    score = _score(chosen.choice.take, chosen.choice.seed)
    rows, costly = f"(SELECT * FROM {chosen.view} WHERE kept)", chosen.choice.take == "random"
    cuts = find_cuts(chosen.connection, rows, score, amounts, "n_tokens", costly=costly)
    chosen.view = _cut_view(chosen.connection, chosen.view, score, dict.fromkeys(amounts, NOTHING), cuts)


def _score(order: Order, seed: int) -> str:
    return {"highest": "key", "lowest": "-key", "random": f"-{draw(seed)}"}[order]


def _cut_view(connection: Any, view: str, score: str, first: dict[Any, Cut], last: dict[Any, Cut]) -> str:
    """A view that keeps, of what `view` keeps, the rows after `first` and up to `last`."""
    import pyarrow as pa

    name = f"{view}_cut"
    parts = list(last)
    columns: dict[str, list[Any]] = {"part": parts}
    tests = ["kept"]
    for place, cuts in (("last", last), ("first", first)):
        if all(cut == (EVERYTHING if place == "last" else NOTHING) for cut in cuts.values()):
            continue
        columns |= {
            f"{place}_score": [cuts[part].score for part in parts],
            f"{place}_id": [cuts[part].id for part in parts],
        }
        # one comparison of rows names the score once: a filter computes it anew for every mention
        tests.append(f"{'' if place == 'last' else 'NOT '}row(score, -id) >= row({place}_score, -{place}_id)")
    connection.register(f"{name}s", pa.table(columns))
    connection.execute(f"""
        CREATE OR REPLACE TEMP VIEW {name} AS
        SELECT s.* EXCLUDE (score{"".join(f", {column}" for column in columns if column != "part")})
            REPLACE ({" AND ".join(tests)} AS kept)
        FROM (SELECT *, {score} AS score FROM {view} JOIN {name}s USING (part)) AS s
    """)
    return name

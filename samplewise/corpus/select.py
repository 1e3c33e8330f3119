"""Which samples of a scored corpus to train on: thresholds, a rule, a token budget, one after the other, and a control.

Nothing here needs the model, and rules made of ranks need no memory for the corpus either.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from samplewise.core.errors import SamplewiseError
from samplewise.core.replaced import temporary_folder
from samplewise.core.rule import Ranks, Rule
from samplewise.corpus.amounts import memory_bytes
from samplewise.corpus.candidates import make_candidates
from samplewise.corpus.cut import Ranking
from samplewise.corpus.draw import order_sql
from samplewise.corpus.junk_filter import below, check_border, junk_table
from samplewise.corpus.selection import Choice, Selection, cut_view, ranked, start_view
from samplewise.corpus.shared_lines import keep_unshared
from samplewise.corpus.spend import spend
from samplewise.corpus.store import Scores, readable
from samplewise.corpus.within import Records
from samplewise.rules.epochs import refuse_token_rule


@contextmanager
def select(
    scores: Scores, choice: Choice, *, memory: str = "2GB", threads: int | None = None, records: Records | None = None
) -> Iterator[Selection]:
    """The selection, as long as the block lasts.

    memory: what DuckDB may hold (beyond it, it writes to the system's folder for temporary files), and what a rule that
        needs all losses at once may take.
    records: reads the corpus again, for `within` a field of its records that is no column of the scores.
    Errors: SamplewiseError for columns that are not there, for rules that need more samples, for an empty selection.
    """
    fields = choice.rule.required_fields if choice.rule else frozenset()
    with (
        readable(scores.place),
        temporary_folder() as temporary,
        scores.connect(memory=memory, threads=threads, temporary=temporary) as connection,
    ):
        candidates = make_candidates(
            connection, scores, choice.by, choice.within, choice.unit, fields, records, choice.per
        )
        kept = _thresholds(choice)
        if choice.drop_junk is not None:
            border = check_border(choice.drop_junk)
            junk_table(connection, scores, choice.unit)
            kept += f" AND {below(border)}"
        if choice.drop_shared is not None:
            kept += f" AND {keep_unshared(connection, scores, choice.unit, choice.drop_shared)}"
        chosen = Selection(connection, choice, candidates, start_view(connection, "stage", kept))
        if choice.rule is not None:
            _apply(chosen, choice.rule, memory_bytes(memory))
        if choice.tokens is not None or choice.quotas is not None:
            spend(chosen)
        if not any(own.kept for own in chosen.totals().values()):
            raise SamplewiseError(
                "selection", expected="at least one sample", got=f"none of {candidates.samples:,}",
                remedy="Loosen the thresholds, the rule or the budget.",
            )  # fmt: skip
        yield chosen


def _thresholds(choice: Choice) -> str:
    parts = [f"key {sign} '{value!r}'::DOUBLE" for sign, value in ((">=", choice.above), ("<=", choice.below))
             if value is not None]  # fmt: skip
    return " AND ".join(parts) or "TRUE"


def _apply(chosen: Selection, rule: Rule, memory: int) -> None:
    refuse_token_rule(rule, "over a corpus")
    if rule.ranks is None:
        from samplewise.corpus.weigh import weigh  # torch, which ranks do without

        weigh(chosen, rule, memory)
        return
    for stage in rule.ranks:
        _keep_ranks(chosen, stage, rule)


def _keep_ranks(chosen: Selection, stage: Ranks, rule: Rule) -> None:
    view, score = ranked(chosen.connection, chosen.view, order_sql(stage.order, stage.seed))
    ranking = Ranking(chosen.connection, f"(SELECT * FROM {view} WHERE kept)", score)
    counts = {part: own.rows for part, own in ranking.parts.items()}
    small = {part: n for part, n in counts.items() if n < stage.min_samples}
    if small and chosen.choice.within is None:
        raise SamplewiseError(
            "rule", expected=f"at least {stage.min_samples} samples for {rule}", got=f"{sum(counts.values())}",
            remedy="Raise the shares in the rule, or select from more samples.",
        )  # fmt: skip
    chosen.too_small |= small
    intervals = {part: stage.interval(n) for part, n in counts.items()}
    first, last = ranking.cuts(*({part: own[end] for part, own in intervals.items()} for end in (0, 1)))
    chosen.view = cut_view(chosen.connection, view, score, first, last)

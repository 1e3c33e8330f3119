"""A budget of tokens spent on a selection, part by part, or weights in its place."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from samplewise.core.errors import SamplewiseError
from samplewise.corpus.cut import Ranking, put_table
from samplewise.corpus.divide import divided
from samplewise.corpus.draw import order_sql
from samplewise.corpus.quotas import Quotas
from samplewise.corpus.selection import Selection, cut_view, in_parts, ranked
from samplewise.corpus.sums import sums
from samplewise.corpus.within import part_name


def spend(chosen: Selection) -> None:
    """Keep what the budget and the quotas of the choice allow; of each part in the order `take`.

    A part's samples are taken until the next would exceed its tokens, so that it ends within one sample of them.
    """
    budget, quotas = chosen.choice.tokens, chosen.choice.quotas
    if quotas is not None and quotas.reweight:
        _reweigh(chosen, quotas)
        return
    part = chosen.budget_part
    view, score = ranked(chosen.connection, chosen.view, order_sql(chosen.choice.take, chosen.choice.seed))
    ranking = Ranking(chosen.connection, in_parts(view, part, "kept"), score, "n_tokens")
    tokens = {name: int(own.total) for name, own in ranking.parts.items()}
    if budget is not None and sum(tokens.values()) <= budget and (quotas is None or not quotas.shares):
        budget = sum(tokens.values())
        if quotas is None:
            return
    amounts = _amounts(chosen, quotas or Quotas(), tokens, budget)
    chosen.view = cut_view(chosen.connection, view, score, None, ranking.cuts(amounts)[0], part)


def _amounts(
    chosen: Selection, quotas: Quotas, there: Mapping[Any, float], budget: int | None, *, whole: bool = True
) -> dict[Any, float]:  # fmt: skip
    """The tokens of each part, which people name as a report does."""
    names = {part_name(chosen.choice.parts, part): part for part in there}
    found = divided(quotas, {name: there[part] for name, part in names.items()}, budget, whole=whole)
    return {names[name]: value for name, value in found.items()}


def _reweigh(chosen: Selection, quotas: Quotas) -> None:
    """Multiply weights so that those of a part, times tokens, have its share of the sum; mean 1 over what is kept."""
    part, view = chosen.budget_part, chosen.view
    masses = ", ".join(sums(chosen.connection, f"{view} WHERE kept", "weight * n_tokens", "weight"))
    found = chosen.connection.sql(f"""
        SELECT {part}, {masses}, sum(n_tokens)::BIGINT FROM {view} WHERE kept GROUP BY {part} ORDER BY {part}
    """).fetchall()
    mass = {name: each for name, each, _, _ in found}
    budget = chosen.choice.tokens or sum(tokens for *_, tokens in found)
    amounts = _amounts(chosen, quotas, mass, budget, whole=False)
    factors = {name: amounts[name] / mass[name] for name in mass}
    total = sum(factors[name] * weight for name, _, weight, _ in found)
    kept = sum(own.kept for own in chosen.totals().values())
    if total <= 0:
        raise SamplewiseError(
            "--reweight", expected="a part with a share above 0", got="none", remedy="Change the shares or the maxima."
        )
    names = list(factors)
    scale = [factors[name] * kept / total for name in names]
    chosen.view = f"{view}_shared"
    put_table(chosen.connection, f"{view}_factors", {part: names, "factor": scale})
    chosen.connection.execute(f"""
        CREATE OR REPLACE TEMP VIEW {chosen.view} AS
        SELECT s.* REPLACE (s.weight * coalesce(f.factor, 0) AS weight, kept AND coalesce(f.factor, 0) > 0 AS kept)
        FROM {view} AS s LEFT JOIN {view}_factors AS f USING ({part})
    """)
    chosen.weighs = True

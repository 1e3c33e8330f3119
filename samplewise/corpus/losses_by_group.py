"""Groups of which a selection leaves out far more than of the others: often a surprise, and then a domain is gone."""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from samplewise.corpus.within import part_name

if TYPE_CHECKING:
    from samplewise.corpus.selection import Selection

FEWEST = 20
"""Samples of a group below which its share says nothing."""
LISTED = 200
"""Groups listed in a statement at most, the largest first."""


@dataclass(frozen=True)
class Group:
    """samples: of the group, among all that could be selected; kept: of these."""

    name: str
    samples: int
    kept: int


def warned(groups: Sequence[Group], within: str | None) -> list[str]:
    """A sentence for each group that loses more than twice the share that all lose, or of which less than half the
    share of all is kept; the worst first. within: what the groups are, as `--within` takes it; None for what it cannot.
    """
    samples, kept = sum(own.samples for own in groups), sum(own.kept for own in groups)
    if len(groups) < 2 or kept == samples:
        return []
    whole = kept / samples
    bad = [own for own in groups if own.samples >= FEWEST
           and (1 - own.kept / own.samples > 2 * (1 - whole) or own.kept / own.samples < whole / 2)]  # fmt: skip
    remedy = f" To select separately: --within {shlex.quote(within)}." if within is not None else ""
    return [f"Of {own.name}, {own.kept:,} of {own.samples:,} samples are kept ({own.kept / own.samples:.1%}); of all, "
            f"{whole:.1%}.{remedy}" for own in sorted(bad, key=lambda own: own.kept / own.samples)]  # fmt: skip


def groups_of(selection: Selection, *ways: str) -> dict[str, list[Group]]:
    """By "source", "length" or "language" (which needs the table `junk`): the groups, the largest first."""
    columns = ", ".join(_COLUMNS.get(by, by) for by in ways)
    rows = f"{selection.view} JOIN junk USING (id)" if "language" in ways else selection.view
    selection.connection.execute(f"""
        CREATE OR REPLACE TEMP TABLE kept_counts AS
        SELECT {columns}, count(*) AS every, count(*) FILTER (kept) AS kept FROM {rows} GROUP BY {columns}
    """)  # logarithms, below, of the few numbers of tokens, not of every sample's
    return {by: _groups(selection.connection, by) for by in ways}


_COLUMNS = {"length": "n_tokens"}


def _groups(connection: Any, by: str) -> list[Group]:
    part = "floor(ln(greatest(n_tokens, 1) + 0.5) / ln(2))::INTEGER" if by == "length" else by
    found = connection.execute(f"""
        SELECT {part} AS own, sum(every)::BIGINT AS samples, sum(kept)::BIGINT FROM kept_counts
        GROUP BY own ORDER BY samples DESC, own
    """).fetchall()
    return [Group(part_name(by, own), count, kept) for own, count, kept in found]


def kept_by(selection: Selection) -> dict[str, Any]:
    """For the statement: what is kept by source, length and, where junk was judged, language; and the warnings.

    What the selection is made within needs no warning.
    """
    choice = selection.choice
    ways = ["source", "length", *(["language"] if choice.drop_junk is not None else [])]
    groups = groups_of(selection, *ways)
    listed = {by: [own.__dict__ for own in found[:LISTED]] for by, found in groups.items() if len(found) > 1}
    named = {by: None if by == "language" else by for by in groups}
    said = [text for by, found in groups.items() if choice.within is None for text in warned(found, named[by])]
    return {"groups": listed, "warnings": said}

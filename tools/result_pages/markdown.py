"""Tables in Markdown, and numbers as they stand in them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from samplewise.evidence.sentences import LEVEL

NONE = "–"


def table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """The rows under their head; columns in which no row has anything are left out, the first apart.

    >>> print(table(["a", "b", "c"], [["x|y", "–", "1"]]))
    | a | c |
    |---|---|
    | x\\|y | 1 |
    """
    used = [i for i in range(len(head)) if i == 0 or any(row[i] != NONE for row in rows)]
    lines = [[head[i] for i in used], *([row[i] for i in used] for row in rows)]
    written = ["| " + " | ".join(cell.replace("|", "\\|").replace("\n", " ") for cell in line) + " |" for line in lines]
    return "\n".join([written[0], "|---" * len(used) + "|", *written[1:]])


def span(row: Mapping[str, Any] | None, digits: int = 4, sign: str = "+") -> str:
    """A mean and its 95% interval; in bold where p after Holm says that it is not 0."""
    if row is None:
        return NONE
    mean, low, high = (f"{row[key]:{sign}.{digits}f}" for key in ("mean", "low", "high"))
    return f"{f'**{mean}**' if row.get('p_holm', 1.0) < LEVEL else mean} [{low}, {high}]"


def code(text: str) -> str:
    """In the type of code."""
    return f"`{text}`"


def p_value(value: float) -> str:
    """To two digits.

    >>> p_value(0.0312), p_value(3e-9)
    ('0.031', '< 0.0001')
    """
    return "< 0.0001" if value < 1e-4 else f"{value:.2g}"


def percent(share: float) -> str:
    """Whole per cent, tenths below ten."""
    return f"{share:.1%}" if 0 < share < 0.0995 else f"{share:.0%}"

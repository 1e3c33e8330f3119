"""Tables that sort and filter, and lists of facts."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from markupsafe import Markup

from samplewise.report.page.axis import number
from samplewise.report.page.element import element
from samplewise.report.page.scatter import search

SHORT = 160
"""Characters of a text shown before it is opened."""
TALL = 15
"""Rows above which a table scrolls in a box of its own."""


@dataclass(frozen=True)
class Column:
    """name: the heading. kind: "number" (right-aligned), "text" (shortened; a click opens it) or "word" (as it is)."""

    name: str
    kind: Literal["number", "text", "word"] = "number"


def table(columns: Sequence[Column], rows: Sequence[Sequence[object]], *, filter: bool = True) -> Markup:
    """Rows of values, one a column; None is an empty cell. Headings sort; the field above filters by words.

    A value may be a pair (number, what is shown). On narrow screens each row becomes a card.
    """
    head = element("tr", *(_heading(column) for column in columns))
    body = (
        element("tr", *(_cell(column, value) for column, value in zip(columns, row, strict=True)), role="row")
        for row in rows
    )
    tools = element("div", search("rows"), element("output", f"{len(rows):,} shown"), class_="tools")
    grid = element("table", element("thead", head), element("tbody", *body))
    box = element("div", grid, class_="tall", tabindex="0") if len(rows) > TALL else grid
    return element("div", tools if filter and len(rows) > 5 else "", box, class_="filtered sheet")


def _heading(column: Column) -> Markup:
    return element("th", element("button", column.name, type="button"), scope="col", class_=column.kind)


def _cell(column: Column, value: object) -> Markup:
    sort, shown = value if isinstance(value, tuple) else (value, value)
    if column.kind == "text":
        content = _text("" if shown is None else str(shown))
    elif shown is None:
        content = "–"
    else:
        content = number(shown) if isinstance(shown, (int, float)) and not isinstance(shown, bool) else str(shown)
    key = repr(float(sort)) if column.kind == "number" and isinstance(sort, (int, float)) else None
    return element("td", content, class_=column.kind, data_label=column.name, data_value=key)


def _text(text: str) -> Markup:
    if len(text) <= SHORT:
        return element("span", text, class_="quote")
    return element(
        "details", element("summary", element("span", f"{text[:SHORT]}…", class_="quote")),
        element("span", text, class_="quote"),
    )  # fmt: skip


def facts(pairs: Mapping[str, object]) -> Markup:
    """What there is to know at a glance: name over value; numbers are written for people."""
    return element("dl", *(element("div", element("dt", k), element("dd", _fact(v))) for k, v in pairs.items()),
                   class_="facts")  # fmt: skip


def _fact(value: object) -> str:
    return number(value) if isinstance(value, (int, float)) and not isinstance(value, bool) else str(value)

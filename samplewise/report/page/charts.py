"""Charts: values in, a drawing for `figure` out."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise

from markupsafe import Markup

from samplewise.report.page.axis import Axis, number
from samplewise.report.page.element import element, together
from samplewise.report.page.plot import (
    HEIGHT,
    TOP,
    across,
    colour,
    frame,
    legend,
    path_of,
    rules,
    shade,
    stretched,
    upwards,
)

Marks = Sequence[tuple[float, str]]


@dataclass(frozen=True)
class Line:
    """A series of `lines`: x and y of equal length; low, high: its interval, of the same length or empty."""

    name: str
    x: Sequence[float]
    y: Sequence[float]
    low: Sequence[float] = ()
    high: Sequence[float] = ()


@dataclass(frozen=True)
class Interval:
    """A row of `intervals`: an estimate and the ends of its interval; tip: more words on hovering."""

    name: str
    value: float
    low: float
    high: float
    tip: str = ""


def histogram(
    edges: Sequence[float], counts: Mapping[str, Sequence[float]], x: Axis, y: Axis, *, label: str, marks: Marks = (),
    shaded: tuple[float, float] | None = None,
) -> Markup:  # fmt: skip
    """Bars for one series, outlines for several. edges: [K + 1] rising; counts: [K] by name of the series.

    marks: (value, label) of vertical lines. shaded: a range of x. label: what the drawing shows, for screen readers.
    """
    x = x.fitted(edges)
    values = [c for each in counts.values() for c in each]
    y = Axis(y.label, 0.0 if y.low is None else y.low, y.high).fitted(values, pad=0.35 if marks else 0.08)
    body = [shade(x, *shaded)] if shaded else []
    if len(counts) == 1:
        body += [
            _bar(x, y, low, high, count) for (low, high), count in zip(pairwise(edges), *counts.values(), strict=True)
        ]
    else:
        paths = (
            element("polyline", points=path_of(x, y, _steps(edges, c)), class_=f"line {colour(i)}")
            for i, c in enumerate(counts.values())
        )
        body.append(stretched(*paths))
    return together([legend(list(counts)), frame(x, y, *body, rules(x, marks), label=label, name="histogram")])


def _bar(x: Axis, y: Axis, low: float, high: float, count: float) -> Markup:
    top = upwards(y, count)
    wide = f"{100 * max(0.0, x.place(high) - x.place(low)):.3f}%"
    tip = f"{number(low)} to {number(high)}: {number(count)}"
    return element(
        "rect", x=across(x, low), width=wide, y=top, height=round(TOP + HEIGHT - top, 2), class_="bar", data_tip=tip
    )


def _steps(edges: Sequence[float], counts: Sequence[float]) -> list[tuple[float, float]]:
    corners = [point for ends, c in zip(pairwise(edges), counts, strict=True) for point in ((ends[0], c), (ends[1], c))]
    return [(edges[0], 0.0), *corners, (edges[-1], 0.0)]


def lines(series: Sequence[Line], x: Axis, y: Axis, *, label: str, marks: Marks = ()) -> Markup:
    """Curves over x, with their intervals as bands; points tell their values where a series has at most 64."""
    x = x.fitted(v for s in series for v in s.x)
    y = y.fitted((v for s in series for v in (*s.y, *s.low, *s.high)), pad=0.05)
    paths, dots = [], []
    for i, s in enumerate(series):
        if len(s.low):
            ring = [*zip(s.x, s.high, strict=True), *reversed(list(zip(s.x, s.low, strict=True)))]
            paths.append(element("polygon", points=path_of(x, y, ring), class_=f"spread {colour(i)}"))
        points = list(zip(s.x, s.y, strict=True))
        paths.append(element("polyline", points=path_of(x, y, points), class_=f"line {colour(i)}"))
        if len(points) <= 64:
            dots += [_dot(x, y, i, a, b, f"{s.name}: {number(b)} at {number(a)}") for a, b in points]
    drawing = frame(x, y, stretched(*paths), *dots, rules(x, marks), label=label, name="lines")
    return together([legend([s.name for s in series]), drawing])


def _dot(x: Axis, y: Axis, series: int, a: float, b: float, tip: str) -> Markup:
    return element("circle", cx=across(x, a), cy=upwards(y, b), r=4, class_=f"dot {colour(series)}", data_tip=tip)


def intervals(rows: Sequence[Interval], x: Axis, *, label: str, zero: float | None = 0.0) -> Markup:
    """One row an estimate: a dot and its interval, under its name. zero: where a vertical line stands, or None."""
    ends = [end for row in rows for end in (row.low, row.high)] + ([] if zero is None else [zero])
    x, height = x.fitted(ends, pad=0.06), 42 * len(rows)
    parts = [] if zero is None else [rules(x, [(zero, "")], height)]
    for i, row in enumerate(rows):
        at = TOP + 42 * i + 28
        tip = row.tip or f"{row.name}: {number(row.value)}, {number(row.low)} to {number(row.high)}"
        parts += [
            element("text", row.name, x="0", y=at - 12, class_="rl"),
            element("line", x1=across(x, row.low), x2=across(x, row.high), y1=at, y2=at, class_="interval c0"),
            element("circle", cx=across(x, row.value), cy=at, r=5, class_="dot c0", data_tip=tip),
        ]
    return frame(x, None, *parts, label=label, height=height, name="intervals")


def bars(rows: Sequence[tuple[str, float, str]], x: Axis, *, label: str) -> Markup:
    """One horizontal bar a row of (name, value, what is written beside the name)."""
    x = Axis(x.label, 0.0 if x.low is None else x.low, x.high).fitted(value for _, value, _ in rows)
    parts = []
    for i, (name, value, text) in enumerate(rows):
        at = TOP + 36 * i
        parts += [
            element("text", name, element("tspan", text, class_="soft", dx="8"), x="0", y=at + 12, class_="rl"),
            element(
                "rect", x="0", width=across(x, value), y=at + 18, height=10, class_="bar", data_tip=f"{name}: {text}"
            ),
        ]
    return frame(x, None, *parts, label=label, height=36 * len(rows), name="bars")

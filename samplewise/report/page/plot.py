"""The frame of a plot: axes, grid, labels, and whatever is marked inside.

Across, positions are percentages and lengths are pixels, so that a plot fills 400 px or 1,200 px with letters of the
same size and without a script; upwards, all are pixels.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from markupsafe import Markup

from samplewise.report.page.axis import Axis
from samplewise.report.page.element import element, together

TOP, HEIGHT, BELOW = 10, 210, 46  # px: room above, the plot itself, and its labels
NARROW = 290
"""px of a plot's width on a screen of 400: a page has no script to fit its labels with."""
SERIES = 8
"""Colours there are; a series beyond takes the last."""


def across(axis: Axis, value: float) -> str:
    """The x of a value."""
    return f"{100 * axis.place(value):.3f}%"


def upwards(axis: Axis, value: float, height: int = HEIGHT) -> float:
    """The y of a value, px from the top."""
    return round(TOP + height * (1 - axis.place(value)), 2)


def colour(index: int) -> str:
    """The class that gives a mark the colour of the series `index`, from 0."""
    return f"c{min(index, SERIES - 1)}"


def frame(
    x: Axis, y: Axis | None, *marks: Markup, label: str, height: int = HEIGHT, extra: Markup | str = "",
    name: str = "",
) -> Markup:  # fmt: skip
    """A plot with its axes. x, y: fitted; y=None has no labels upwards. label: what it shows, for those who hear it.

    extra: markup beside the drawing, such as its data. name: class of the whole.
    """
    rows = y.labels(5) if y else []
    grid = [_level(1 - place, height) for place, _ in rows]
    ticks = [element("text", text, x=f"{100 * place:.3f}%", y=TOP + height + 19, class_="xt")
             for place, text in x.labels(width=NARROW)]  # fmt: skip
    base = element("line", x1="0", x2="100%", y1=TOP + height, y2=TOP + height, class_="base")
    title = element("text", x.label, x="50%", y=TOP + height + 39, class_="xl")
    area = element(
        "svg", *grid, *marks, base, *ticks, title,
        class_="area", width="100%", height=TOP + height + BELOW, role="img", aria_label=label,
    )  # fmt: skip
    side = [element("text", text, x="100%", y=round(TOP + height * (1 - place) + 4, 1), class_="yt")
            for place, text in rows]  # fmt: skip
    left = element("svg", *side, class_="side", height=TOP + height + BELOW, aria_hidden="true") if y else ""
    above = element("div", y.label, class_="yl") if y and y.label else ""
    return element("div", above, left, area, extra, class_=f"plot {name} {'' if y else 'wide'}".strip())


def _level(place: float, height: int) -> Markup:
    at = round(TOP + place * height, 2)
    return element("line", x1="0", x2="100%", y1=at, y2=at, class_="grid")


def stretched(*paths: Markup, height: int = HEIGHT) -> Markup:
    """Paths in 1000 by `height` units, stretched to the plot's width; their strokes are not."""
    return element(
        "svg", *paths, width="100%", height=height, y=TOP, viewBox=f"0 0 1000 {height}", preserveAspectRatio="none",
        class_="stretched",
    )  # fmt: skip


def path_of(x: Axis, y: Axis, points: Iterable[tuple[float, float]], height: int = HEIGHT) -> str:
    """The points as "x,y x,y …" for a polyline within `stretched`."""
    return " ".join(f"{1000 * x.place(a):.1f},{height * (1 - y.place(b)):.1f}" for a, b in points)


def rules(x: Axis, marks: Sequence[tuple[float, str]], height: int = HEIGHT) -> Markup:
    """Vertical lines at values, each with its label beside it."""
    parts = []
    for row, (value, text) in enumerate(marks):
        at, late = across(x, value), x.place(value) > 0.5
        line = element("line", x1=at, x2=at, y1=TOP, y2=TOP + height, class_="rule")
        parts += [line, element(
            "text", text, x=at, y=TOP + 11 + 15 * (row % 4), dx=-5 if late else 5, class_="rt late" if late else "rt",
        )]  # fmt: skip
    return together(parts)


def shade(x: Axis, low: float, high: float, tip: str = "", height: int = HEIGHT) -> Markup:
    """A shaded range of x."""
    wide = f"{100 * (x.place(high) - x.place(low)):.3f}%"
    return element("rect", x=across(x, low), width=wide, y=TOP, height=height, class_="shade", data_tip=tip or None)


def legend(names: Sequence[str]) -> Markup:
    """The names of series 0, 1, … with their colours; nothing for a single one."""
    if len(names) < 2:
        return Markup("")
    return element("ul", *(element("li", name, class_=colour(i)) for i, name in enumerate(names)), class_="legend")

"""Points that tell what they are: hover for the text, filter by group and by words."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from markupsafe import Markup

from samplewise.report.page.axis import Axis, number
from samplewise.report.page.element import data, element
from samplewise.report.page.plot import HEIGHT, TOP, across, colour, frame, upwards

MOST = 5000
"""Points that a browser draws and searches at once without a pause; callers sample down to it."""


@dataclass(frozen=True)
class Point:
    """x and y, the group that colours it, and the text shown on hovering."""

    x: float
    y: float
    group: str = ""
    text: str = ""


def scatter(points: Sequence[Point], x: Axis, y: Axis, *, label: str, group: str = "group") -> Markup:
    """The points, with a choice of group where there is more than one, and a search through their texts.

    points: at most `MOST`, else ValueError. group: what a group is called, such as "source"; the seven largest have
    colours of their own.
    """
    if len(points) > MOST:
        raise ValueError(f"{len(points)} points: sample at most {MOST}")
    x, y = x.fitted((p.x for p in points), pad=0.03), y.fitted((p.y for p in points), pad=0.03)
    names = _by_size(points)
    place = {name: i for i, name in enumerate(names)}
    dots = (
        element("circle", cx=across(x, p.x), cy=upwards(y, p.y), r=3, class_=f"point {colour(place[p.group])}")
        for p in points
    )
    content = data({
        "x": [round(x.place(p.x), 5) for p in points],
        "y": [round(TOP + HEIGHT * (1 - y.place(p.y)), 1) for p in points],
        "group": [place[p.group] for p in points],
        "names": names,
        "head": [f"{x.label} {number(p.x)} · {y.label} {number(p.y)}" for p in points],
        "text": [p.text for p in points],
    })  # fmt: skip
    drawing = frame(x, y, *dots, label=label, extra=content, name="scatter")
    return element("div", _tools(names, group, len(points)), drawing, class_="filtered")


def _by_size(points: Sequence[Point]) -> list[str]:
    counts: dict[str, int] = {}
    for point in points:
        counts[point.group] = counts.get(point.group, 0) + 1
    return sorted(counts, key=lambda name: (-counts[name], name))


def _tools(names: Sequence[str], group: str, count: int) -> Markup:
    choices = [element("option", f"every {group}", value="")]
    choices += [element("option", name, value=str(i)) for i, name in enumerate(names)]
    pick = element("select", *choices, class_="pick", aria_label=f"Show one {group}") if len(names) > 1 else ""
    return element("div", pick, search("points"), element("output", f"{count:,} shown"), class_="tools")


def search(what: str) -> Markup:
    """The text field that filters the points of a plot."""
    return element("input", type="search", class_="search", placeholder=f"filter {what}", aria_label=f"Filter {what}")

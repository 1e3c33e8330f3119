"""Components of self-contained HTML pages, used by every report.

A component takes plain values and returns markup; `page` or `write_page` puts them into one file that needs no
network, no other file, and opens in light and dark and at 400 px. All text is escaped; no component takes markup
from data. The reports themselves live beside this package and import what they report on, never the other way round.

>>> import tempfile, pathlib
>>> path = pathlib.Path(tempfile.mkdtemp()) / "r.html"
>>> bars = histogram([0, 1, 2], {"all": [3, 5]}, Axis("loss, nats/token"), Axis("samples"), label="losses")
>>> write_page(path, "A report", section("Loss", paragraph("Two bins."), figure(bars, "Most lie above 1.")))
>>> path.read_text()[:15]
'<!doctype html>'

| component | takes | gives |
|---|---|---|
| `page(title, *parts, lead=)`, `write_page(path, …)` | sections | the file; a list of the sections at its top |
| `section(title, *parts)` | any parts | a heading and its parts |
| `paragraph`, `warning` | texts | prose; prose in a box |
| `facts({name: value})` | numbers or texts | tiles of name over value |
| `figure(drawing, caption)` | one of those below | the drawing with a caption |
| `columns(*parts)` | figures | beside each other where there is room |
| `histogram(edges, {name: counts}, x, y)` | [K + 1] edges, [K] counts a series | bars; outlines for several series |
| `lines([Line(name, x, y, low, high)], x, y)` | series over x | curves, with bands where low and high are given |
| `intervals([Interval(name, value, low, high)], x, zero=)` | estimates | a forest plot |
| `bars([(name, value, text)], x)` | categories | horizontal bars |
| `scatter([Point(x, y, group, text)], x, y, group=)` | 5,000 points at most | hover, filter, pick a group |
| `table([Column(name, kind)], rows, filter=)` | values, None, or (sort key, text) | headings sort, a field filters |

x, y: `Axis(label, low=, high=, log=, ticks=)`, its ends taken from the data where not given. Every drawing takes
`label`, what it shows for those who cannot see it. `number` and `percent` write numbers as the pages do.
"""

from samplewise.report.page.axis import Axis, number, percent
from samplewise.report.page.charts import Interval, Line, bars, histogram, intervals, lines
from samplewise.report.page.document import columns, figure, page, paragraph, section, warning, write_page
from samplewise.report.page.element import data, element
from samplewise.report.page.scatter import MOST, Point, scatter
from samplewise.report.page.table import Column, facts, table

__all__ = [
    "MOST",
    "Axis",
    "Column",
    "Interval",
    "Line",
    "Point",
    "bars",
    "columns",
    "data",
    "element",
    "facts",
    "figure",
    "histogram",
    "intervals",
    "lines",
    "number",
    "page",
    "paragraph",
    "percent",
    "scatter",
    "section",
    "table",
    "warning",
    "write_page",
]

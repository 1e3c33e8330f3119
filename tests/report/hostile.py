"""Texts that would do something to a page that let them, and a page made of them."""

from samplewise.report.page import (
    Axis,
    Column,
    Interval,
    Line,
    Point,
    bars,
    facts,
    figure,
    histogram,
    intervals,
    lines,
    page,
    paragraph,
    scatter,
    section,
    table,
    warning,
)

HOSTILE = [
    "<script>document.title = 'owned'</script>",
    "</script><script>document.title = 'owned'</script>",
    "<img src=x onerror=\"document.title = 'owned'\">",
    "\"><svg onload='document.title = 1'>",
    "' onmouseover='document.title = 1",
    "{{7*7}} {% raw %} ${7*7} <%= 7*7 %>",
    "</style><style>* { display: none }</style>",
    "--></textarea><!-- ]]> &lt;b&gt; &#x27;",
    "a\u2028b\u2029c \x00\x08\x1b[31m \U0001f600 \u202egnirts",
    '\\u003cscript\\u003e \\" \\n',
]


def hostile_page() -> str:
    """Every component, with hostile text wherever a component takes text."""
    x, y = Axis(HOSTILE[0]), Axis(HOSTILE[1])
    pairs = [(float(i), text) for i, text in enumerate(HOSTILE)]
    points = [Point(i, i, text, f"{text} point") for i, text in pairs]
    rows = [[i, text, text * 20] for i, text in pairs]
    curves = [Line(text, [0.0, 1.0], [i, i + 1]) for i, text in pairs]
    drawings = [
        histogram([0, 1, 2], {text: [1, 2] for text in HOSTILE}, x, y, label=HOSTILE[2], marks=[(1.0, HOSTILE[3])]),
        histogram([0, 1, 2], {HOSTILE[4]: [1, 2]}, x, y, label=HOSTILE[2]),
        lines(curves, x, y, label=HOSTILE[4]),
        intervals([Interval(text, i, i - 1, i + 1) for i, text in pairs], x, label=HOSTILE[4]),
        bars([(text, i, text) for i, text in pairs], x, label=HOSTILE[4]),
        scatter(points, x, y, label=HOSTILE[4], group=HOSTILE[4]),
        table([Column(HOSTILE[0]), Column(HOSTILE[3], "word"), Column(HOSTILE[4], "text")], rows),
    ]
    return page(
        HOSTILE[0], section(HOSTILE[1], *(figure(each, HOSTILE[1]) for each in drawings)),
        section(HOSTILE[6], *HOSTILE, *map(paragraph, HOSTILE), *map(warning, HOSTILE)),
        section(HOSTILE[8], facts(dict(zip(HOSTILE, HOSTILE, strict=True)))), lead=HOSTILE[5],
    )  # fmt: skip

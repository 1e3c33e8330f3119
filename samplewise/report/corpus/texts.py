"""The samples themselves: points to hover over, tables of texts, near-duplicates."""

from __future__ import annotations

from collections.abc import Sequence

from markupsafe import Markup

from samplewise.corpus.survey import Survey
from samplewise.report.corpus.looked import CLIPPED, SHOWN, Looked, Seen, nats
from samplewise.report.page import (
    Axis,
    Column,
    Point,
    figure,
    paragraph,
    percent,
    scatter,
    section,
    table,
)

LOSS = Axis("loss, nats/token")


def points(looked: Looked) -> Markup:
    """Loss against length, coloured by source."""
    drawn = [Point(e.row.loss, e.row.n_tokens, e.row.place, hover(e)) for e in looked.sampled]
    drawing = scatter(drawn, LOSS, Axis("tokens", log=True), label="Samples by loss and length", group="source")
    return section("Samples", figure(drawing, f"{len(drawn):,} samples drawn at random. Hover over one to read it."))


def tables(looked: Looked, has_text: bool) -> Markup:
    """The hardest, the most typical and the easiest, side by side in one section."""
    parts: list[Markup] = []
    for title, seen in (("The highest losses", looked.hardest), ("Around the median", looked.typical),
                        ("The lowest losses", looked.easiest)):  # fmt: skip
        parts += [paragraph(f"{title}:"), text_table(seen, has_text)]
    return section("Hardest, typical, easiest", *parts)


def text_table(seen: Sequence[Seen], has_text: bool = True) -> Markup:
    """Samples with their texts, in the order given."""
    heads = [Column("loss"), Column("tokens"), Column("source", "word")]
    heads += [Column("looks", "word"), Column("text", "text")] if has_text else []
    rows: list[list[object]] = [
        [
            nats(e.row.loss),
            e.row.n_tokens,
            f"{e.row.source}:{e.row.row}",
            *([e.told or "–", e.row.text] if has_text else []),
        ]
        for e in seen
    ]
    return table(heads, rows)


def duplicates(asked: Survey, looked: Looked) -> Markup:
    """The same beginnings in the whole corpus, near ones among the samples shown."""
    extra, repeated = asked.repeated(SHOWN)
    whole = asked.candidates.samples
    parts = [paragraph(
        f"{extra:,} of {whole:,} samples ({percent(extra / whole)}) begin exactly as another one, but for case and "
        "white space." if extra else "No two samples begin alike."
    )]  # fmt: skip
    if repeated:
        heads = [Column("times"), Column("lowest loss"), Column("highest"), Column("text", "text")]
        parts.append(table(heads, [[n, nats(low), nats(high), text] for n, low, high, text in repeated]))
    if looked.groups:
        parts.append(paragraph(f"{len(looked.groups):,} groups of near-duplicates among the samples drawn and shown:"))
        heads = [
            Column("samples"),
            Column("losses from"),
            Column("to"),
            Column("first", "text"),
            Column("another", "text"),
        ]
        parts.append(table(heads, [_group(group) for group in looked.groups[:SHOWN]]))
    return section("Duplicates", *parts)


def _group(group: Sequence[Seen]) -> list[object]:
    found = [e.row.loss for e in group]
    return [len(group), nats(min(found)), nats(max(found)), group[0].row.text, group[1].row.text]


def hover(seen: Seen) -> str:
    """What a point says of its sample."""
    told = f"[{seen.told}]\n" if seen.told else ""
    return f"{seen.row.source}:{seen.row.row}\n{told}{seen.row.text[:CLIPPED]}"

"""The samples themselves: points to hover over, tables of texts, near-duplicates."""

from __future__ import annotations

import shlex
from collections.abc import Sequence

from markupsafe import Markup

from samplewise.corpus.shared_lines import CHARACTERS, DOCUMENTS, HALF, shared_lines
from samplewise.corpus.survey import Survey
from samplewise.report.corpus.looked import CLIPPED, SHOWN, Looked, Seen, nats
from samplewise.report.page import (
    Axis,
    Column,
    Point,
    element,
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


CHANGED = 30
"""Samples of the table of changes."""


def changed(asked: Survey) -> list[Markup]:
    """Samples within which the loss changes most: two texts in one, or a text that turns to noise."""
    ends, found = asked.changed(CHANGED)
    if not found:
        return []
    half, most, rare = ends
    said = (
        "Every sample parted in two where its token losses differ most (16 tokens or more on each side): the change is "
        f"below {half:.2f} nats per token in half of the samples, above {most:.2f} in one of twenty and above "
        f"{rare:.2f} in one of a hundred. Large changes are often two texts in one, a text that turns to noise or to a "
        "list, or an answer after a prompt; select --by loss_change --above … or --below … cuts by them."
    )
    heads = [Column("change"), Column("loss"), Column("tokens"), Column("source", "word")]
    heads += [Column("text", "text")] if asked.has_text else []
    rows: list[list[object]] = [
        [(change, f"{change:+.2f}"), nats(row.loss), row.n_tokens, f"{row.source}:{row.row}",
         *([row.text] if asked.has_text else [])] for change, row in found
    ]  # fmt: skip
    return [section("Changes within a sample", paragraph(said), table(heads, rows))]


def shared(asked: Survey) -> Markup:
    """Lines that many documents share, and the command that leaves out texts made of them."""
    found = shared_lines(asked.connection, "SELECT id, doc_id, loss, text FROM placed", CHANGED)
    said = (
        f"{found.lines:,} lines of at least {CHARACTERS} characters are in {DOCUMENTS} documents or more, whatever "
        f"their case and numbers; they are {percent(found.characters)} of the text that the scores keep."
    )
    if not found.lines:
        return section("Shared lines", paragraph(said))
    name = shlex.quote(str(asked.scores.place))
    command = f"samplewise select {name} --drop-shared {HALF} --out train.jsonl"
    more = (
        f"{found.samples:,} samples are at least half such lines. Look at the lines first: beside menus and notices, "
        "they may be licences, forms and code that belongs there. This leaves these samples out:"
    )
    heads = [Column("documents"), Column("mean loss"), Column("line", "text")]
    rows = [[count, nats(loss), line] for count, loss, line in found.most]
    return section(
        "Shared lines", paragraph(said), paragraph(more), element("p", element("code", command), class_="command"),
        table(heads, rows),
    )  # fmt: skip


def _group(group: Sequence[Seen]) -> list[object]:
    found = [e.row.loss for e in group]
    return [len(group), nats(min(found)), nats(max(found)), group[0].row.text, group[1].row.text]


def hover(seen: Seen) -> str:
    """What a point says of its sample."""
    told = f"[{seen.told}]\n" if seen.told else ""
    return f"{seen.row.source}:{seen.row.row}\n{told}{seen.row.text[:CLIPPED]}"

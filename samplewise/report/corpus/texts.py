"""The samples themselves: points to hover over, tables of texts, junk, near-duplicates."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

from markupsafe import Markup

from samplewise.corpus.junk import HIGH, LOW
from samplewise.corpus.survey import Survey
from samplewise.report.corpus.looked import CLIPPED, SHOWN, Looked, Seen, nats
from samplewise.report.page import (
    Axis,
    Column,
    Line,
    Point,
    figure,
    lines,
    paragraph,
    percent,
    scatter,
    section,
    table,
)

LOSS = Axis("loss, nats/token")
DECILES = 10


def points(looked: Looked) -> Markup:
    """Loss against length, coloured by source."""
    drawn = [Point(e.row.loss, e.row.n_tokens, e.row.place, _hover(e)) for e in looked.sampled]
    drawing = scatter(drawn, LOSS, Axis("tokens", log=True), label="Samples by loss and length", group="source")
    return section("Samples", figure(drawing, f"{len(drawn):,} samples drawn at random. Hover over one to read it."))


def junk(looked: Looked, quantiles: Mapping[float, float]) -> Markup:
    """Where on the scale of losses the junk lies, and which it is at both ends."""
    ends = sorted(each.row.loss for each in looked.sampled)
    edges = [ends[min(len(ends) - 1, len(ends) * k // DECILES)] for k in range(DECILES)]
    decile = [sum(e.row.loss >= edge for edge in edges[1:]) for e in looked.sampled]
    series = [Line(name, [k + 0.5 for k in range(DECILES)], _shares(looked.sampled, decile, test)) for name, test in (
        ("repeats itself or others", lambda e: e.low_junk), ("garbled, encoded, foreign", lambda e: e.high_junk),
    )]  # fmt: skip
    ticks = tuple((k + 0.5, f"{k + 1}") for k in range(DECILES))
    x = Axis("tenth of the samples, from the lowest losses to the highest", 0, DECILES, ticks=ticks)
    curve = lines(series, x, Axis("share of the texts drawn, %", low=0), label="Junk by loss")
    low = _compressed(looked)
    return section(
        "Junk", paragraph(
            "What the loss cannot tell, from the first characters of texts: low losses of texts that repeat themselves "
            "(their compressed size is small for their length, or lines and runs of words come again) or each other, "
            "and high losses of garbled, encoded, binary or foreign text. These are crude measures that point at "
            "texts to read; shuffled words, for one, escape them."
        ),
        figure(curve, f"Of the {len(looked.sampled):,} texts drawn, by loss."),
        figure(low, "Compressed size as a share of the text's: repetition lies low, encoded text high."),
        paragraph("Low losses that look like junk:"), _flagged(looked, quantiles[0.3], LOW, True),
        paragraph("High losses that look like junk:"), _flagged(looked, quantiles[0.7], HIGH, False),
    )  # fmt: skip


def _shares(seen: Sequence[Seen], decile: Sequence[int], test: Callable[[Seen], bool]) -> list[float]:
    inside = [[test(e) for e, own in zip(seen, decile, strict=True) if own == k] for k in range(DECILES)]
    return [100 * sum(own) / max(1, len(own)) for own in inside]


def _compressed(looked: Looked) -> Markup:
    drawn = [Point(e.row.loss, e.measures.compressed, e.told.split(",")[0] or "nothing of note", _hover(e))
             for e in looked.sampled]  # fmt: skip
    return scatter(drawn, LOSS, Axis("compressed size"), label="Compressibility by loss", group="look")


def _flagged(looked: Looked, border: float, names: Sequence[str], low: bool) -> Markup:
    """The flagged of one side, the most extreme first."""
    every = {e.row.id: e for e in (*looked.sampled, *looked.easiest, *looked.hardest)}.values()
    found = [e for e in every if (e.row.loss <= border if low else e.row.loss >= border)
             and (any(name in names for name in e.looks) or (low and e.copy))]  # fmt: skip
    if not found:
        return paragraph("None among the samples drawn.")
    return _table(sorted(found, key=lambda e: e.row.loss if low else -e.row.loss)[:SHOWN])


def tables(looked: Looked, has_text: bool) -> Markup:
    """The hardest, the most typical and the easiest, side by side in one section."""
    parts: list[Markup] = []
    for title, seen in (("The highest losses", looked.hardest), ("Around the median", looked.typical),
                        ("The lowest losses", looked.easiest)):  # fmt: skip
        parts += [paragraph(f"{title}:"), _table(seen, has_text)]
    return section("Hardest, typical, easiest", *parts)


def _table(seen: Sequence[Seen], has_text: bool = True) -> Markup:
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


def _hover(seen: Seen) -> str:
    told = f"[{seen.told}]\n" if seen.told else ""
    return f"{seen.row.source}:{seen.row.row}\n{told}{seen.row.text[:CLIPPED]}"

"""The loss alone: overall, by source, by length."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from markupsafe import Markup

from samplewise.corpus.stand_in import stand_ins
from samplewise.corpus.survey import LARGEST, OTHER, Survey, even_edges
from samplewise.report.corpus.looked import nats
from samplewise.report.page import (
    Axis,
    Column,
    Line,
    facts,
    figure,
    histogram,
    lines,
    number,
    paragraph,
    percent,
    section,
    table,
    warning,
)

MANY = 1000
"""Samples from which on nothing is said about their number."""
LOSS, SHARE = Axis("loss, nats/token"), Axis("share of samples, %")


def overview(asked: Survey, quantiles: Mapping[float, float]) -> Markup:
    """What there is, in tiles."""
    found, manifest = asked.facts(), asked.scores.manifest
    tiles = {
        "samples": found["samples"], **_documents(asked, found["documents"]), "tokens": found["tokens"],
        "sources": found["sources"], "mean loss": found["mean"], "median loss": quantiles[0.5],
        "loss over tokens": found["token_mean"], "bits per byte": found["bits_per_byte"],
    }  # fmt: skip
    parts = [facts(tiles), *_small(int(found["samples"]))]
    if manifest.rows_quarantined:
        reasons = ", ".join(f"{count:,} {reason}" for reason, count in manifest.reasons.items())
        parts.append(
            warning(f"{manifest.rows_quarantined:,} of {manifest.rows_in:,} records are not in here: {reasons}.")
        )
    if asked.candidates.left_out:
        parts.append(warning(f"{asked.candidates.left_out:,} samples have no finite loss, and are left out here."))
    return section("Overview", *parts)


def _documents(asked: Survey, about: float) -> dict[str, float]:
    """How many documents: known where every one that was read has a finite loss, else counted about."""
    manifest = asked.scores.manifest
    whole = not asked.candidates.left_out and manifest.rows_scored
    return {"documents": manifest.rows_scored} if whole else {"documents, about": about}


def _small(samples: int) -> list[Markup]:
    """What cannot be said of few samples."""
    if samples >= MANY:
        return []
    share = 0.98 / math.sqrt(samples)
    return [warning(
        f"{samples:,} samples are few: a tenth of them is {samples // 10}, and the ends beyond 1% are single samples "
        f"or none. As a statement about more text like this, a share of all is known to ±{percent(round(share, 2))}. "
        "Differences between sources, lengths or bands of fewer than 30 samples are chance until shown otherwise."
    )]  # fmt: skip


def losses(asked: Survey, quantiles: Mapping[float, float]) -> Markup:
    """The distribution, overall and by source; ends beyond the 1st and 99th percentile count as at them."""
    edges = even_edges(*_ends(quantiles))
    whole = asked.histogram(edges)
    marks = [(quantiles[0.5], "median"), (quantiles[0.9], "hardest tenth from here")]
    drawing = histogram(
        edges.tolist(), _shares(whole), LOSS, SHARE, label="Histogram of the losses", marks=marks,
        shaded=(quantiles[0.7], quantiles[0.9]),
    )  # fmt: skip
    said = (
        f"Four fifths of the samples lie between {quantiles[0.1]:.2f} and {quantiles[0.9]:.2f} nats per token. Shaded: "
        "the moderately high losses, between the 70th and the 90th percentile. What lies beyond the outer bars is "
        "counted in them."
    )
    parts = [figure(drawing, said)]
    by_place = asked.histogram(edges, "place")
    if len(by_place) > 1:
        parts += _by_place(edges, by_place, asked.places)
    return section("Losses", *parts)


def other_models(asked: Survey) -> list[Markup]:
    """How the order by loss agrees with that by other models' losses; nothing where there are none."""
    found = stand_ins(asked.connection, asked.scores)
    if not found:
        return []
    heads = [
        Column("loss of", "word"), Column("windows of both"), Column("Spearman"), Column("95% interval", "word"),
        Column("hardest tenth shared"), Column("easiest tenth shared"),
    ]  # fmt: skip
    rows = [
        [each.name, each.windows, (each.spearman, f"{each.spearman:.3f}"), f"{each.low:.3f} to {each.high:.3f}",
         (each.hardest, percent(each.hardest)), (each.easiest, percent(each.easiest))] for each in found
    ]  # fmt: skip
    said = (
        f"Rank correlation of {found[0].key} with the losses of other models. Where it is high, a selection by the "
        "cheaper model stands in for one by the other; the tenths are what a cut would have in common."
    )
    return [section("Other models", paragraph(said), table(heads, rows, filter=False))]


def _ends(quantiles: Mapping[float, float]) -> tuple[float, float]:
    spread = quantiles[0.99] - quantiles[0.01]
    return max(0.0, quantiles[0.01] - spread / 8), quantiles[0.99] + spread / 8


def _shares(counts: Mapping[Any, Any]) -> dict[str, list[float]]:
    return {str(name): (100 * own / own.sum()).tolist() for name, own in counts.items()}


def _by_place(edges: Any, counts: Mapping[str, Any], places: list[str]) -> list[Markup]:
    ordered = {name: counts[name] for name in [*places, OTHER] if name in counts}
    drawing = histogram(edges.tolist(), _shares(ordered), LOSS, SHARE, label="Histograms of the losses by source")
    middles = (edges[1:] + edges[:-1]) / 2
    rows = [[name, own.sum(), nats((own * middles).sum() / own.sum()), nats(_quantile(own, edges, 0.9))]
            for name, own in ordered.items()]  # fmt: skip
    heads = [Column("source", "word"), Column("samples"), Column("mean loss, about"), Column("90% lie below, about")]
    more = f" The {LARGEST} largest have names of their own." if OTHER in ordered else ""
    return [
        figure(drawing, f"Each source by itself, of 100%.{more}"),
        table(heads, rows, filter=False),
    ]


def _quantile(counts: Any, edges: Any, share: float) -> float:
    return float(edges[1:][(counts.cumsum() >= share * counts.sum()).argmax()])


def lengths(asked: Survey) -> Markup:
    """Loss against the number of tokens: short samples are often hard for want of context, not for what they say."""
    found = asked.by_length()
    correlation = asked.length_correlation()
    x = [2**bucket * 1.4 for bucket, *_ in found]
    ticks = tuple((2**bucket * 1.4, str(2**bucket)) for bucket, *_ in found)
    line = Line("median", x, [m for *_, m, _ in found], [low for *_, low, _, _ in found], [high for *_, high in found])
    axis = Axis("tokens of a sample, from", log=True, ticks=ticks[-7:])
    drawing = lines([line], axis, LOSS, label="Loss by length")
    said = "All samples are equally long." if correlation is None else (
        f"The loss and the logarithm of the token count correlate by {number(round(correlation, 3))}. "
        + _advice(correlation)
    )  # fmt: skip
    rows = [
        [(2**k, f"{2**k:,} to {2 ** (k + 1) - 1:,}"), n, nats(low), nats(mid), nats(high)]
        for k, n, low, mid, high in found
    ]
    heads = [Column("tokens"), Column("samples"), Column("10%"), Column("median loss"), Column("90%")]
    return section(
        "Length", paragraph(said),
        figure(drawing, "Median, and the range from the 10th to the 90th percentile, of samples of like length."),
        table(heads, rows, filter=False),
    )  # fmt: skip


def _advice(correlation: float) -> str:
    if abs(correlation) < 0.1:
        return "So selecting by loss hardly selects by length."
    kind = "short" if correlation < 0 else "long"
    return (
        f"So high losses are more often those of {kind} samples ({percent(correlation**2)} of the variance): a choice "
        "by loss is also one by length, unless it is made within lengths (select --within length)."
    )

"""Bands of the loss: what is in each, and what several selections would keep."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping, Sequence

from markupsafe import Markup

from samplewise.corpus.survey import Survey
from samplewise.report.corpus.looked import Looked, Seen, nats
from samplewise.report.page import Column, paragraph, percent, section, table

BANDS = (
    ("easiest tenth", 0.0, 0.1), ("10% to 30%", 0.1, 0.3), ("middle, 30% to 70%", 0.3, 0.7),
    ("moderately high, 70% to 90%", 0.7, 0.9), ("hardest tenth", 0.9, 1.0),
)  # fmt: skip
RULES = (
    ("uniform()", 0.0, 1.0), ("band(drop_top=0.01)", 0.0, 0.99), ("band(drop_top=0.05)", 0.0, 0.95),
    ("band(drop_top=0.1)", 0.0, 0.9), ("band(drop_top=0.1, drop_bottom=0.1)", 0.1, 0.9),
    ("band(drop_top=0.1, drop_bottom=0.3)", 0.3, 0.9), ("band(drop_top=0.1, drop_bottom=0.7)", 0.7, 0.9),
    ("top_k(0.5)", 0.5, 1.0), ("top_k(0.1)", 0.9, 1.0),
)  # fmt: skip


def bands(asked: Survey, quantiles: Mapping[float, float], looked: Looked) -> Markup:
    """The section with both tables."""
    edges = {0.0: -math.inf, **quantiles, 1.0: math.inf}
    inside = {name: _between(looked.sampled, edges[low], edges[high]) for name, low, high in BANDS}
    return section(
        "Bands", _content(asked, edges, inside),
        paragraph("What some selections would keep:"),
        _kept(asked, edges, looked),
    )  # fmt: skip


def _between(seen: Sequence[Seen], low: float, high: float) -> list[Seen]:
    """Above `low` and up to `high`: quantiles are values that samples have."""
    return [each for each in seen if low < each.row.loss <= high]


def _content(asked: Survey, edges: Mapping[float, float], inside: Mapping[str, Sequence[Seen]]) -> Markup:
    heads = [Column("band", "word"), Column("losses from"), Column("to"), Column("mostly from", "word")]
    junk = [Column("junk, of those drawn"), Column("for example", "text")]
    rows = []
    for name, low, high in BANDS:
        seen = inside[name]
        ends = [None if math.isinf(edges[end]) else nats(edges[end]) for end in (low, high)]
        row: list[object] = [name, *ends, _places(seen)]
        rows.append(row + ([_junk(seen), _example(seen)] if asked.has_text else []))
    return table(heads + (junk if asked.has_text else []), rows, filter=False)


def _kept(asked: Survey, edges: Mapping[float, float], looked: Looked) -> Markup:
    heads = [Column("rule", "word"), Column("samples kept"), Column("tokens kept"), Column("mean loss")]
    heads += [Column("junk, of those drawn")] if asked.has_text else []
    rows = []
    for name, low, high in RULES:
        samples, tokens, mean = asked.kept(math.nextafter(edges[low], math.inf), edges[high])
        row: list[object] = [name, samples, tokens, nats(mean)]
        rows.append(row + ([_junk(_between(looked.sampled, edges[low], edges[high]))] if asked.has_text else []))
    return table(heads, rows, filter=False)


def _places(seen: Sequence[Seen]) -> str:
    found = Counter(each.row.place for each in seen).most_common(2)
    return ", ".join(f"{place} {percent(count / len(seen))}" for place, count in found) or "–"


def _junk(seen: Sequence[Seen]) -> object:
    count = sum(each.is_junk for each in seen)
    return (count / len(seen), percent(count / len(seen))) if seen else None


def _example(seen: Sequence[Seen]) -> str:
    return seen[len(seen) // 2].row.text if seen else ""

"""What selections keep of every source, length and language: a cut by loss is often also one of these."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping

from markupsafe import Markup

from samplewise.corpus.losses_by_group import Group, warned
from samplewise.corpus.survey import LISTED, Survey
from samplewise.report.corpus.looked import Looked, Seen
from samplewise.report.page import Column, paragraph, percent, section, table, warning
from samplewise.report.page.element import Child

RULES = (
    ("band(drop_top=0.1)", 0.0, 0.9), ("band(drop_top=0.1, drop_bottom=0.3)", 0.3, 0.9), ("top_k(0.5)", 0.5, 1.0),
)  # fmt: skip
FEWEST = 30
"""Texts drawn of a language below which its shares are not shown."""


def kept(asked: Survey, quantiles: Mapping[float, float], looked: Looked) -> Markup:
    """The section: a table for each way of grouping, and warnings with their remedy."""
    edges = {0.0: -math.inf, **quantiles, 1.0: math.inf}
    parts: list[Child] = [paragraph(
        "Shares that a selection keeps of each group, of all samples; of languages and of junk, of those drawn."
    )]  # fmt: skip
    for within, title in (("source", "source"), ("length", "tokens")):
        parts += _exact(asked, edges, looked, within, title)
    if asked.within is not None:
        parts += _fields(asked, edges, looked, asked.within)
    if asked.has_text:
        parts += _languages(edges, looked)
    return section("What selections keep", *parts)


def _exact(asked: Survey, edges: Mapping[float, float], looked: Looked, within: str, title: str) -> list[Markup]:
    bounds = [(math.nextafter(edges[low], math.inf), edges[high]) for _, low, high in RULES]
    found = asked.kept_by(within, bounds)
    if len(found) < 2:
        return []
    rows = []
    for name, count, shown, shares in found:
        drawn = [each for each in looked.sampled if _part(each, within) == name]
        junk = [_share(sum(not each.is_junk for each in drawn), len(drawn))] if asked.has_text else []
        rows.append([(count, shown), count, *(_share(own, count) for own in shares), *junk])
    notes = []
    for place, (rule, _, _) in enumerate(RULES):
        groups = [Group(shown, count, shares[place]) for _, count, shown, shares in found]
        notes += [warning(f"{rule}: {said}") for said in warned(groups, within)[:3]]
    heads = [Column(title, "word"), Column("samples"), *(Column(rule) for rule, _, _ in RULES)]
    return [*notes, table(heads + ([Column(_drop(looked))] if asked.has_text else []), rows, filter=False)]


def _fields(asked: Survey, edges: Mapping[float, float], looked: Looked, within: str) -> list[Child]:
    """By the column or field that was asked for, whatever its number of values."""
    count = asked.parts()
    most = f", of which the {LISTED} largest are listed" if count > LISTED else ""
    said = paragraph(f"By {within}: {count:,} {'parts' if count > 1 else 'part'}{most}.")
    return [said, *_exact(asked, edges, looked, within, within)]


def _part(each: Seen, within: str) -> object:
    if within == "source":
        return each.row.place
    return int(math.log2(each.row.n_tokens + 0.5)) if within == "length" else each.row.part


def _languages(edges: Mapping[float, float], looked: Looked) -> list[Markup]:
    by: dict[str, list[Seen]] = {}
    for each in looked.sampled:
        by.setdefault(each.language, []).append(each)
    rows = []
    for name, own in sorted(by.items(), key=lambda pair: -len(pair[1])):
        if len(own) < FEWEST:
            continue
        tests: list[Callable[[Seen], bool]] = [
            lambda each, low=low, high=high: edges[low] < each.row.loss <= edges[high] for _, low, high in RULES
        ]
        tests.append(lambda each: not each.is_junk)
        rows.append([name, len(own), *(_share(sum(map(test, own)), len(own)) for test in tests)])
    heads = [Column("language or code", "word"), Column("drawn"), *(Column(rule) for rule, _, _ in RULES),
             Column(_drop(looked))]  # fmt: skip
    few = sum(len(own) for own in by.values() if len(own) < FEWEST)
    note = [paragraph(f"{few} texts drawn are of languages with fewer than {FEWEST} here.")] if few else []
    return [table(heads, rows, filter=False), *note] if len(rows) > 1 else note


def _drop(looked: Looked) -> str:
    return f"--drop-junk {looked.cut.border:g}"


def _share(some: int, every: int) -> object:
    return (some / every, percent(some / every)) if every else None

"""What of a corpus is junk, wherever on the scale of losses it lies, and what the measures do not see."""

from __future__ import annotations

import math
import shlex
from collections import Counter
from collections.abc import Sequence

from markupsafe import Markup

from samplewise.corpus.junk import Cut
from samplewise.corpus.junk.cut import MOST
from samplewise.corpus.junk.measures import CODE, ENGLISH, LATEX
from samplewise.corpus.junk_filter import NO_LANGUAGE
from samplewise.corpus.survey import Survey
from samplewise.report.corpus.looked import SHOWN, Looked, Seen
from samplewise.report.corpus.texts import LOSS, hover, text_table
from samplewise.report.page import (
    Axis,
    Column,
    Line,
    Point,
    element,
    figure,
    lines,
    paragraph,
    percent,
    scatter,
    section,
    table,
)

DECILES = 10
SHORT = 400
"""Characters below which the measures find less."""


def junk(asked: Survey, looked: Looked) -> Markup:
    """The section: how much, where, the command that leaves it out, what is not seen, and the texts."""
    seen = looked.sampled
    found = [each for each in seen if each.is_junk]
    every = {each.row.id: each for each in (*looked.sampled, *looked.easiest, *looked.hardest)}.values()
    texts = sorted((each for each in every if each.is_junk), key=lambda each: -each.junk)[:SHOWN]
    return section(
        "Junk", paragraph(_amount(found, seen, looked.cut)), *_command(asked, found, looked.cut),
        paragraph(_by_loss(seen)),
        figure(_curve(seen), f"Of the {len(seen):,} texts drawn, by loss."),
        paragraph("What the junk looks like; a text may look like several things:"), _kinds(found, seen),
        paragraph(blind(seen)),
        figure(_scores(seen), f"Junk score of each text drawn: junk from {looked.cut.border:g}."),
        paragraph("Texts of the highest junk scores:") if texts else "", text_table(texts) if texts else "",
    )  # fmt: skip


def margin(count: int, total: int) -> float:
    """Half of the 95% interval of a share (Agresti and Coull's)."""
    share = (count + 2) / (total + 4)
    return 1.96 * math.sqrt(share * (1 - share) / (total + 4))


def _amount(found: Sequence[Seen], seen: Sequence[Seen], cut: Cut) -> str:
    share = len(found) / max(1, len(seen))
    return (
        f"{len(found):,} of {len(seen):,} texts drawn at random ({percent(share)}, "
        f"±{percent(margin(len(found), len(seen)))}) have a junk score of {cut.border:g} or more. The score does not "
        f"depend on the other texts of the corpus; of clean texts of these kinds, {percent(cut.clean)} reach it."
    )


def command(asked: Survey, cut: Cut) -> str:
    """What leaves the junk out, as it can be typed."""
    return f"samplewise select {shlex.quote(str(asked.scores.place))} --drop-junk {cut.border:g} --out train.jsonl"


def _command(asked: Survey, found: Sequence[Seen], cut: Cut) -> list[Markup]:
    if not found:
        return []
    return [
        paragraph(
            "This selects all samples below that score, whatever their loss. Expected: of the clean texts, "
            f"{percent(cut.clean)} go too; of what goes, {percent(cut.mistaken)} is clean. The border is the one at "
            f"which most more junk than clean text goes here, and no more than {percent(MOST)} of the clean:"
        ),
        element("p", element("code", command(asked, cut)), class_="command"),
    ]


def _by_loss(seen: Sequence[Seen]) -> str:
    """Where on the scale of losses the junk lies: what was found, and no advice."""
    ordered = sorted(seen, key=lambda each: each.row.loss)
    tenth = len(ordered) // DECILES
    if tenth < 30:
        return f"{len(seen):,} texts are too few to say at which losses junk lies."
    top, rest = ordered[-tenth:], ordered[:-tenth]
    a, b = sum(each.is_junk for each in top), sum(each.is_junk for each in rest)
    p, q = a / len(top), b / len(rest)
    error = math.hypot(margin(a, len(top)), margin(b, len(rest)))
    counts = (
        f"{a} of the {len(top)} hardest texts ({percent(p)}) are junk, and {b} of the other {len(rest)} ({percent(q)})"
    )
    if abs(p - q) <= error:
        return (
            f"{counts}: no difference that these numbers of texts show. A cut by loss is neither supported nor refuted."
        )
    if p < q:
        return f"{counts}. Most junk found has no high loss: leaving out the hardest tenth would not leave it out."
    return (
        f"{counts}. Leaving out the hardest tenth would also leave out {len(top) - a} texts in which these measures "
        "find nothing; --drop-junk leaves out the junk of all losses."
    )


def _curve(seen: Sequence[Seen]) -> Markup:
    ends = sorted(each.row.loss for each in seen)
    edges = [ends[min(len(ends) - 1, len(ends) * k // DECILES)] for k in range(DECILES)]
    inside: list[list[bool]] = [[] for _ in range(DECILES)]
    for each in seen:
        inside[sum(each.row.loss >= edge for edge in edges[1:])].append(each.is_junk)
    shares = [100 * sum(own) / max(1, len(own)) for own in inside]
    ticks = tuple((k + 0.5, f"{k + 1}") for k in range(DECILES))
    x = Axis("tenth of the samples, from the lowest losses to the highest", 0, DECILES, ticks=ticks)
    line = Line("junk", [k + 0.5 for k in range(DECILES)], shares)
    return lines([line], x, Axis("share of the texts drawn, %", low=0), label="Junk by loss")


def _kinds(found: Sequence[Seen], seen: Sequence[Seen]) -> Markup:
    counts = Counter(look for each in found for look in each.looks)
    heads = [
        Column("looks", "word"),
        Column("texts"),
        Column("of all drawn"),
        Column("mean loss"),
        Column("for example", "text"),
    ]
    rows = []
    for look, count in counts.most_common():
        own = [each for each in found if look in each.looks]
        mean = sum(each.row.loss for each in own) / len(own)
        rows.append([look, count, (count / len(seen), percent(count / len(seen))), round(mean, 3), own[0].row.text])
    return table(heads, rows, filter=False) if rows else paragraph("None among the texts drawn.")


def blind(seen: Sequence[Seen]) -> str:
    """What the measures cannot see in these texts."""
    other = sum(each.language not in (ENGLISH, *CODE, LATEX, NO_LANGUAGE) for each in seen)
    unknown = sum(each.language == NO_LANGUAGE for each in seen)
    length = sorted(len(each.row.text) for each in seen)[len(seen) // 2] if seen else 0
    parts = [
        "What these measures do not see: false statements, machine-written or machine-translated text, chains of real "
        "word pairs, and mostly also spliced documents and sentences in another order; of a "
        "text, all after its beginning."
    ]
    if other:
        parts.append(
            f"{other:,} of the texts drawn are in other languages than English: there, shuffled words and wrong words "
            "with letters that the language allows go unseen."
        )
    if unknown:
        parts.append(f"{unknown:,} have no letters of a script that the measures know: their garbling goes unseen.")
    if length < SHORT:
        parts.append(f"The scores keep {length} characters of a text: score with --text 600 to find more.")
    parts.append("That little junk is found is no reason for or against a cut by loss.")
    return " ".join(parts)


def _scores(seen: Sequence[Seen]) -> Markup:
    drawn = [Point(each.row.loss, each.junk, each.told.split(",")[0] or "nothing found", hover(each))
             for each in seen if not math.isnan(each.junk)]  # fmt: skip
    return scatter(drawn, LOSS, Axis("junk score", 0, 1), label="Junk score by loss", group="look")

"""Build the page from a folder of scores."""

from __future__ import annotations

from pathlib import Path

from markupsafe import Markup

from samplewise.corpus.store import Scores
from samplewise.corpus.survey import Survey, survey
from samplewise.corpus.within import Records
from samplewise.report.corpus.bands import bands
from samplewise.report.corpus.junk import junk
from samplewise.report.corpus.kept import kept
from samplewise.report.corpus.looked import look
from samplewise.report.corpus.losses import lengths, losses, other_models, overview
from samplewise.report.corpus.texts import changed, duplicates, points, shared, tables
from samplewise.report.page import warning, write_page

NO_TEXT = (
    "The scores hold no text: score with --text 600 to see samples, near-duplicates and junk here. A loss alone tells "
    "neither boilerplate from easy prose nor garbling from hard prose."
)


def write_corpus_report(
    path: Path, scores: Scores, *, title: str = "", memory: str = "2GB", within: str | None = None,
    records: Records | None = None,
) -> None:  # fmt: skip
    """Write the page about the scores. title: over it. memory, within, records: as in `survey`."""
    with survey(scores, memory=memory, within=within, records=records) as asked:
        parts = _parts(asked)
    made = scores.manifest.made
    lead = f"Losses of {made.get('data', 'a corpus')} under {made.get('model', 'a model')}, in nats per token."
    write_page(path, title or "A scored corpus", *parts, lead=lead)


def _parts(asked: Survey) -> list[Markup]:
    quantiles = asked.quantiles()
    looked = look(asked, quantiles[0.5])
    parts = [overview(asked, quantiles)]
    if not asked.has_text:
        parts.append(warning(NO_TEXT))
    if asked.has_text:
        parts.append(junk(asked, looked))
    parts += [
        losses(asked, quantiles), *other_models(asked), bands(asked, quantiles, looked),
        kept(asked, quantiles, looked), lengths(asked), points(looked), tables(looked, asked.has_text),
        *changed(asked),
    ]  # fmt: skip
    if asked.has_text:
        parts += [duplicates(asked, looked), shared(asked)]
    return parts

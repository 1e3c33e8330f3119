"""The junk score of every sample of a scored corpus, as a table beside the others, and the filter by it."""

from __future__ import annotations

from typing import Any

from samplewise.core.errors import SamplewiseError
from samplewise.corpus.candidates import Unit
from samplewise.corpus.store import Scores
from samplewise.corpus.sums import sums

BATCH = 4000
"""Texts held at a time."""
NO_LANGUAGE = "no known language"


def junk_table(connection: Any, scores: Scores, unit: Unit) -> None:
    """Make the table `junk`: id, junk (0 to 1; NULL for what is too short to judge), language; of documents, the mean
    of
    its windows' and the language of the first. Texts are those of the scores, their first characters.

    Errors: SamplewiseError for scores without texts.
    """
    import pyarrow as pa

    from samplewise.corpus.junk import judge_texts
    from samplewise.corpus.junk.model import model

    check_texts(scores)
    connection.execute("CREATE OR REPLACE TEMP TABLE judged (id BIGINT, doc_id BIGINT, junk DOUBLE, language VARCHAR)")
    names = model().languages.names
    for batch in scores.batches(["id", "doc_id", "text"], BATCH):
        found = judge_texts([text or "" for text in batch.column("text").to_pylist()])
        columns = {
            "id": batch.column("id"), "doc_id": batch.column("doc_id"), "junk": pa.array(found.score, from_pandas=True),
            "language": [names[place] if place >= 0 else NO_LANGUAGE for place in found.measured.language],
        }  # fmt: skip
        connection.register("judged_now", pa.table(columns))
        connection.execute("INSERT INTO judged SELECT * FROM judged_now")
    whole = "SELECT id, junk, language FROM judged"
    if unit == "document":
        total, = sums(connection, "judged", "junk")  # fmt: skip
        named = f"{total} / count(junk) AS junk, arg_min(language, rowid) AS language"
        whole = f"SELECT doc_id AS id, {named} FROM judged GROUP BY doc_id"
    connection.execute(f"CREATE OR REPLACE TEMP TABLE junk AS {whole}")


def dropped(connection: Any, border: float) -> int:
    """How many samples reach the border."""
    return connection.execute(f"SELECT count(*) FROM candidates WHERE NOT ({below(border)})").fetchall()[0][0]


def below(border: float) -> str:
    """SQL of what to keep of `candidates`: what scores less than the border, and what is too short to judge."""
    return f"id NOT IN (SELECT id FROM junk WHERE junk >= {border!r})"


def check_texts(scores: Scores, option: str = "--drop-junk") -> None:
    """Errors: SamplewiseError for scores without texts, which the option needs."""
    if "text" not in scores.columns:
        raise SamplewiseError(
            option, expected="scores with the beginnings of their texts", got="scores made with --text 0",
            remedy="Score again with --text 600.",
        )  # fmt: skip


def check_border(border: float) -> float:
    """The border, if it is one. Errors: SamplewiseError outside of (0, 1]."""
    if not 0 < border <= 1:
        raise SamplewiseError(
            "--drop-junk", expected="a junk score above 0 and at most 1", got=border,
            remedy="Take 0.5, the border of the report; a higher one leaves out less.",
        )  # fmt: skip
    return border

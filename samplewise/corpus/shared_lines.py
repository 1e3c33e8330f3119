"""Lines that many documents share: menus, cookie notices, licence headers, footers. Counted by DuckDB, out of core."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from samplewise.core.errors import SamplewiseError
from samplewise.corpus.junk_filter import check_texts
from samplewise.corpus.store import Scores

DOCUMENTS = 10
"""Documents that have a line for it to be called shared."""
CHARACTERS = 20
"""Of a line, at least: shorter ones (`return None`, `Menu`) are shared by chance."""
HALF = 0.5


@dataclass(frozen=True)
class SharedLines:
    """lines: shared ones. characters: their share of all characters. samples: of which at least half are such lines.

    most: (documents, mean loss of the samples, the line) of those that most documents have.
    """

    lines: int
    characters: float
    samples: int
    most: list[tuple[int, float, str]]


def shared_table(connection: Any, rows: str) -> None:
    """Make the tables `line_counts` (line, documents, loss, example) of shared lines, and `shared` (id, share): how
    much of each text such lines are, of texts with any.

    rows: SQL of id, doc_id, loss and text; texts are as far as the scores keep them. Case and numbers do not count. In
    memory are the lines' hashes, and on disk what does not fit.
    """
    connection.execute(f"""
        CREATE OR REPLACE TEMP VIEW text_lines AS
        SELECT id, doc_id, loss, trim(own) AS own, hash(lower(regexp_replace(trim(own), '[0-9]+', '0', 'g'))) AS line
        FROM (SELECT id, doc_id, loss, unnest(string_split(text, chr(10))) AS own FROM ({rows}))
        WHERE length(trim(own)) >= {CHARACTERS}
    """)
    connection.execute(f"""
        CREATE OR REPLACE TEMP TABLE line_counts AS
        SELECT line, count(*) AS documents, avg(loss) AS loss, min(own) AS example
        FROM (SELECT line, doc_id, avg(loss) AS loss, min(own) AS own FROM text_lines GROUP BY line, doc_id)
        GROUP BY line HAVING count(*) >= {DOCUMENTS}
    """)
    connection.execute(f"""
        CREATE OR REPLACE TEMP TABLE shared AS
        SELECT id, least(1.0, sum(length(own)) / any_value(size)) AS share
        FROM text_lines SEMI JOIN line_counts USING (line)
        JOIN (SELECT id, greatest(1, length(text)) AS size FROM ({rows})) USING (id) GROUP BY id
    """)


def shared_lines(connection: Any, rows: str, count: int) -> SharedLines:
    """What is shared, and the `count` lines that most documents have. rows: as in `shared_table`, which this makes."""
    shared_table(connection, rows)
    lines = connection.execute("SELECT count(*) FROM line_counts").fetchall()[0][0]
    whole = connection.execute(f"SELECT coalesce(sum(length(text)), 0) FROM ({rows})").fetchall()[0][0]
    (characters, samples), = connection.execute(f"""
        SELECT coalesce(sum(share * length(text)), 0), count(*) FILTER (share >= {HALF})
        FROM shared JOIN ({rows}) USING (id)
    """).fetchall()  # fmt: skip
    most = connection.execute(
        f"SELECT documents, loss, example FROM line_counts ORDER BY documents DESC, example LIMIT {count}"
    ).fetchall()
    return SharedLines(lines, float(characters) / max(1, whole), samples, most)


def keep_unshared(connection: Any, scores: Scores, unit: str, most: float) -> str:
    """SQL of what to keep of `candidates`: texts of which less than `most` are shared lines; of documents, the mean of
    their windows'. Errors: SamplewiseError for scores without texts, and for a share outside of (0, 1].
    """
    if not 0 < most <= 1:
        raise SamplewiseError(
            "--drop-shared", expected="a share above 0 and at most 1", got=most,
            remedy="Take 0.5: texts of which at least half are lines that other documents have too.",
        )  # fmt: skip
    check_texts(scores, "--drop-shared")
    loss = "loss" if "loss" in scores.columns else "NULL::FLOAT AS loss"  # of a corpus that no model has read
    shared_table(connection, f"SELECT id, doc_id, {loss}, text FROM scored")
    own = f"SELECT id FROM shared WHERE share >= {most!r}"
    if unit == "document":
        own = f"""
            SELECT doc_id AS id
            FROM (SELECT doc_id, coalesce(share, 0) AS share FROM scored LEFT JOIN shared USING (id))
            GROUP BY doc_id HAVING avg(share) >= {most!r}
        """
    connection.execute(f"CREATE OR REPLACE TEMP TABLE shared_out AS {own}")
    return "id NOT IN (SELECT id FROM shared_out)"


def left_out(connection: Any) -> int:
    """How many samples `keep_unshared` leaves out."""
    return connection.execute("SELECT count(*) FROM candidates SEMI JOIN shared_out USING (id)").fetchall()[0][0]

"""What a selection chooses among, as a DuckDB view: windows or whole documents, with the number that ranks them."""

from __future__ import annotations

import math
from collections.abc import Collection
from dataclasses import dataclass
from typing import Any, Literal

from samplewise.core.errors import SamplewiseError
from samplewise.corpus.draw import define
from samplewise.corpus.store import Scores

Unit = Literal["window", "document"]
BUCKETS = "length"
"""The name that `within` gives buckets of token counts: [1, 2), [2, 4), [4, 8), …"""
FIELDS = {"reference": "reference", "group": "group", "weight": "sample_weight"}
"""The columns of the optional fields of `Samples`."""


@dataclass(frozen=True)
class Candidates:
    """The view `candidates`: id, doc_id, source, row, "window", n_tokens, n_bytes, key, part; finite and not empty.

    samples, tokens: in the view. left_out: samples whose key is not finite, or in which nothing is predicted.
    """

    samples: int
    tokens: int
    left_out: int


def make_candidates(
    connection: Any, scores: Scores, by: str, within: str | None, unit: Unit, fields: Collection[str] = ()
) -> Candidates:
    """Make the views `everyone` (all samples) and `candidates` (those that can be ranked).

    by: "loss", "excess" (loss − reference, nats/token) or a column. A document's key is the mean of its windows'
    weighted by their tokens. within: "source", "group", "length" or a column, each value of which is a part of its
    own; None for one part. fields: of `Samples` that a rule reads; they become columns of their own names.
    Errors: SamplewiseError for columns that are not there.
    """
    define(connection)
    more = [FIELDS[name] for name in fields]
    needed = [*needed_columns(by, within), *more]
    scores.check_columns(needed)
    if scores.manifest.columns.get(by) == "string":
        raise SamplewiseError(
            "--by", expected="a column of numbers", got=f"{by}, which is text", remedy="Name a column of numbers."
        )
    connection.execute(f"CREATE OR REPLACE TEMP VIEW scored AS {_rows(connection, scores, needed)}")
    key = "loss::DOUBLE - reference::DOUBLE" if by == "excess" else f"{quoted(by)}::DOUBLE"
    columns = f'id, doc_id, source, row, "window", n_tokens, n_bytes, {key} AS key'
    extra = list(dict.fromkeys([*more, *needed_columns("loss", within)[1:]]))
    wanted = ", ".join([columns, *(quoted(name) for name in extra)])
    source = f"(SELECT {wanted} FROM scored)"
    if unit == "document":
        connection.execute(f"CREATE OR REPLACE TEMP TABLE documents AS {_documents(wanted, extra)}")
        source = "documents"
    connection.execute(f"CREATE OR REPLACE TEMP VIEW everyone AS SELECT *, {_part(within)} AS part FROM {source}")
    connection.execute(
        "CREATE OR REPLACE TEMP VIEW candidates AS SELECT * FROM everyone WHERE isfinite(key) AND n_tokens > 0"
    )
    counted = "count(*), coalesce(sum(n_tokens), 0)"
    (samples, tokens), = connection.sql(f"SELECT {counted} FROM candidates").fetchall()  # fmt: skip
    total = connection.sql("SELECT count(*) FROM everyone").fetchall()[0][0]
    if not samples:
        raise SamplewiseError(
            "scores", expected="samples with a finite loss", got=f"none among {total}", remedy="Score the corpus again."
        )
    return Candidates(samples, int(tokens), total - samples)


def needed_columns(by: str, within: str | None) -> list[str]:
    """The columns beyond those of every scores folder."""
    keys = ["loss", "reference"] if by == "excess" else [by]
    return keys + ([within] if within not in (None, "source", BUCKETS) else [])


def quoted(name: str | None) -> str:
    """A column's name as SQL."""
    return '"' + str(name).replace('"', '""') + '"'


def part_name(within: str | None, part: object) -> str:
    """The name of a part of the corpus, for people to read.

    >>> part_name("length", 6), part_name("source", "a.jsonl")
    ('64 to 127 tokens', 'a.jsonl')
    """
    if within == BUCKETS and isinstance(part, int):
        return f"{2**part} to {2 ** (part + 1) - 1} tokens"
    return "all" if within is None else str(part)


def _part(within: str | None) -> str:
    if within is None:
        return "0"
    if within == BUCKETS:
        return f"floor(ln(greatest(n_tokens, 1) + 0.5) / {math.log(2)!r})::INTEGER"
    return "source" if within == "source" else f"coalesce({quoted(within)}::VARCHAR, 'none')"


def _rows(connection: Any, scores: Scores, needed: list[str]) -> str:
    """SQL of all windows. The joined view is only taken where an added column is needed: a join costs memory."""
    if any(name in scores.added for name in needed):
        return "SELECT * FROM scores"
    files = [scores.place.inside(shard.name) for shard in scores.manifest.shards]
    listed = ", ".join("'" + name.replace("'", "''") + "'" for name in files)
    return f"SELECT * FROM read_parquet([{listed}])"


def _documents(columns: str, extra: list[str]) -> str:
    """A number that a model gave is the mean of the windows' weighted by their tokens; all else is the same in each."""
    mean = "sum({0} * n_tokens) / sum(n_tokens) AS {0}"
    kept = "".join(
        f", {mean.format(name)}" if name == "reference" else f", any_value({quoted(name)}) AS {quoted(name)}"
        for name in extra
    )
    return f"""
        SELECT doc_id AS id, doc_id, any_value(source) AS source, any_value(row) AS row, 0::INTEGER AS "window",
            sum(n_tokens)::BIGINT AS n_tokens, sum(n_bytes)::BIGINT AS n_bytes,
            {mean.format("key")}{kept}
        FROM (SELECT {columns} FROM scored WHERE n_tokens > 0) GROUP BY doc_id
    """

"""What a selection chooses among, as a DuckDB view: windows or whole documents, with the number that ranks them."""

from __future__ import annotations

import re
from collections.abc import Collection
from dataclasses import dataclass
from typing import Any, Literal

from samplewise.core.errors import SamplewiseError
from samplewise.corpus.draw import define
from samplewise.corpus.store import Scores
from samplewise.corpus.sums import sums
from samplewise.corpus.table import COLUMNS
from samplewise.corpus.within import Records, Within, check_kept, quoted, read_fields, within_of
from samplewise.rules.by import MIN_REFERENCE

Unit = Literal["window", "document"]
FIELDS = {"reference": "reference", "group": "group", "weight": "sample_weight", "stored_loss": "loss"}
"""The columns of the optional fields of `Samples`: in scores, the loss is a stored one."""
NUMBERS = ("reference", "sample_weight", "loss")
"""Of these, those that are numbers, whatever type a column has."""
MEANS = ("reference", "loss")
"""Of these, those that a model gave each window, so that a document has their mean."""
NAMED = {"excess": "loss - reference", "ratio": "loss / reference"}
"""Keys that have a name: what `by("excess", …)` and `by("ratio", …)` look at."""
PAIR = re.compile(r"([A-Za-z][\w.]*)\s+([-/])\s+([A-Za-z][\w.]*)")
"""A key of two columns: their difference, or their ratio."""


@dataclass(frozen=True)
class Candidates:
    """The view `candidates`: id, doc_id, source, row, "window", n_tokens, n_bytes, key, part; finite and not empty.

    samples, tokens: in the view. left_out: samples whose key is not finite, or in which nothing is predicted.
    largest: key, without its sign. joined: whether columns were joined, which leaves rows in no known order.
    """

    samples: int
    tokens: int
    left_out: int
    largest: float = 0.0
    joined: bool = False


def make_candidates(
    connection: Any, scores: Scores, by: str, within: str | None, unit: Unit, fields: Collection[str] = (),
    records: Records | None = None, per: str | None = None,
) -> Candidates:  # fmt: skip
    """Make the views `everyone` (all samples) and `candidates` (those that can be ranked).

    by: a column, "excess" (loss − reference, nats/token), "ratio" (loss ÷ reference), or two columns as "A - B" or
    "A / B"; a divisor is at least 0.01. A document's key is the mean of its windows' weighted by their tokens.
    within: "source", "length", a column, a field of the records, or host(…) of either; each value is a part of its own,
    and None one part. fields: of `Samples` that a rule reads; they become columns of their own names.
    records: reads the corpus, where `within` names a field that no column is of.
    per: as `within`, of a column `quota` beside `part`.
    Errors: SamplewiseError for columns and fields that are not there.
    """
    define(connection)
    more = [FIELDS[name] for name in fields]
    parts = {"part": within_of(within, scores.columns)}
    parts |= {} if per is None else {"quota": within_of(per, scores.columns)}
    own = [each.column for each in parts.values() if each.column is not None]
    read = {each.column: each for each in parts.values() if each.field is not None}
    keys = _keys(by, scores.columns)
    needed = [*keys, *more, *(name for name in own if name not in read)]
    scores.check_columns(needed)
    if scores.manifest.columns.get(by) == "string" and by in COLUMNS:
        raise SamplewiseError(
            "--by", expected="a column of numbers", got=f"{by}, which is text", remedy="Name a column of numbers."
        )
    _make_scored(connection, scores, list(read.values()), needed, records)
    for each in parts.values():
        check_kept(connection, each)
    columns = f'id, doc_id, source, row, "window", n_tokens, n_bytes, {_key(keys, by)} AS key'
    extra = list(dict.fromkeys([*more, *own]))
    wanted = ", ".join([columns, *(_number(name) if name in NUMBERS else quoted(name) for name in extra)])
    source = f"(SELECT {wanted} FROM scored)"
    if unit == "document":
        connection.execute(f"CREATE OR REPLACE TEMP TABLE documents AS {_documents(connection, wanted, extra)}")
        source = "documents"
    named = ", ".join(f"{each.sql} AS {name}" for name, each in parts.items())
    connection.execute(f"CREATE OR REPLACE TEMP VIEW everyone AS SELECT *, {named} FROM {source}")
    connection.execute(
        "CREATE OR REPLACE TEMP VIEW candidates AS SELECT * FROM everyone WHERE isfinite(key) AND n_tokens > 0"
    )
    return _counted(connection, by, bool(read) or _takes_join(scores, needed))


def _counted(connection: Any, by: str, joined: bool) -> Candidates:
    counted = "count(*), coalesce(sum(n_tokens), 0), max(abs(key))"
    (samples, tokens, largest), = connection.sql(f"SELECT {counted} FROM candidates").fetchall()  # fmt: skip
    total = connection.sql("SELECT count(*) FROM everyone").fetchall()[0][0]
    if not samples:
        raise SamplewiseError(
            "scores", expected=f"samples with a finite {by}", got=f"none among {total}",
            remedy="Name a column of numbers, or score the corpus again.",
        )  # fmt: skip
    return Candidates(samples, int(tokens), total - samples, largest=largest, joined=joined)


def _keys(by: str, columns: Collection[str]) -> list[str]:
    """The columns that a key is made of."""
    found = None if by in columns else PAIR.fullmatch(NAMED.get(by, by))
    return [found[1], found[3]] if found else [by]


def _key(keys: list[str], by: str) -> str:
    numbers = [f"TRY_CAST({quoted(name)} AS DOUBLE)" for name in keys]
    if len(numbers) == 1:
        return numbers[0]
    found = PAIR.fullmatch(NAMED.get(by, by))
    if found and found[2] == "/":
        return f"{numbers[0]} / greatest({numbers[1]}, {MIN_REFERENCE})"
    return f"{numbers[0]} - {numbers[1]}"


def _number(name: str) -> str:
    return f"TRY_CAST({quoted(name)} AS DOUBLE) AS {quoted(name)}"


def _make_scored(
    connection: Any, scores: Scores, read: list[Within], needed: list[str], records: Records | None
) -> None:  # fmt: skip
    """The view `scored` of all windows, with the fields of their records that parts are made of."""
    rows = _rows(scores, needed)
    if read:
        if records is None:
            scores.check_columns([str(each.text) for each in read])
            return
        read_fields(connection, read, records)
        columns = "".join(f", f.{quoted(each.column)}" for each in read)
        rows = f"SELECT s.*{columns} FROM ({rows}) AS s LEFT JOIN record_fields AS f USING (source, row)"
    connection.execute(f"CREATE OR REPLACE TEMP VIEW scored AS {rows}")


def _rows(scores: Scores, needed: Collection[str]) -> str:
    """SQL of all windows. The joined view is only taken where an added column is needed: a join costs memory."""
    if _takes_join(scores, needed):
        return "SELECT * FROM scores"
    files = [scores.place.inside(shard.name) for shard in scores.manifest.shards]
    listed = ", ".join("'" + name.replace("'", "''") + "'" for name in files)
    return f"SELECT * FROM read_parquet([{listed}])"


def _takes_join(scores: Scores, needed: Collection[str]) -> bool:
    return any(name in scores.added or name in scores.joined for name in needed)


def _documents(connection: Any, columns: str, extra: list[str]) -> str:
    """A number that a model gave is the mean of the windows' weighted by their tokens; all else is the same in each."""
    rows = f"(SELECT {columns} FROM scored WHERE n_tokens > 0)"
    means = ["key", *(name for name in extra if name in MEANS)]
    totals = dict(zip(means, sums(connection, rows, *(f"{quoted(each)} * n_tokens" for each in means)), strict=True))
    kept = "".join(
        f", {totals[name]} / sum(n_tokens) AS {quoted(name)}"
        if name in totals
        else f", any_value({quoted(name)}) AS {quoted(name)}"
        for name in ["key", *extra]
    )
    return f"""
        SELECT doc_id AS id, doc_id, any_value(source) AS source, any_value(row) AS row, 0::INTEGER AS "window",
            sum(n_tokens)::BIGINT AS n_tokens, sum(n_bytes)::BIGINT AS n_bytes{kept}
        FROM {rows} GROUP BY doc_id
    """

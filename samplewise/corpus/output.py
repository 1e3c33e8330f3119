"""Files of a selection: ids, sample weights or records; all of each, or nothing."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

from samplewise.core.errors import SamplewiseError
from samplewise.corpus.selection import Selection
from samplewise.corpus.texts import Piece
from samplewise.corpus.writers import Output, write_records
from samplewise.corpus.writers.output import parent_of

IDS, WEIGHTS = (".parquet", ".txt"), (".parquet",)
Record = dict[str, Any]


def write_ids(selection: Selection, path: str | Path) -> None:
    """The ids of what is kept (of documents: doc_id): .parquet, or .txt with one a line.

    In the order of the scores; documents, and what other tables take part in (parts, added columns, junk and shared
    lines), by source, row and window.
    """
    name = "id" if selection.choice.unit == "window" else "doc_id"
    output = file_output(path, IDS)
    form = "FORMAT parquet" if output.format == "parquet" else "FORMAT csv, HEADER false"
    _copy(selection, f"SELECT {name} FROM {selection.view} WHERE kept{_in_order(selection)}", output, form)


def write_weights(selection: Selection, path: str | Path) -> None:
    """Every sample of the scores with its `sample_weight`: 0 for what is left out, a mean of 1 over what is kept.

    In order as `write_ids`; what cannot be ranked comes last where that is the order of the scores.
    """
    output = file_output(path, WEIGHTS)
    names = 'id, doc_id, source, row, "window"' if selection.choice.unit == "window" else "doc_id, source, row"
    kept = f"SELECT {names}, CASE WHEN kept THEN weight ELSE 0 END AS sample_weight FROM {selection.view}"
    rest = f"SELECT {names}, 0 AS sample_weight FROM everyone WHERE NOT coalesce(isfinite(key) AND n_tokens > 0, false)"
    whole = f"{kept} UNION ALL {rest}{_in_order(selection)}"
    _copy(selection, whole, output, "FORMAT parquet, COMPRESSION zstd")


def _in_order(selection: Selection) -> str:
    """What is joined or grouped keeps no order; a sort costs little beside it."""
    choice = selection.choice
    others = (choice.parts, choice.drop_junk, choice.drop_shared)
    joined = selection.candidates.joined or any(each is not None for each in others)
    if choice.unit == "window":
        return ' ORDER BY source, row, "window"' if joined else ""
    return " ORDER BY source, row"


def write_texts(selection: Selection, output: Output, source: Callable[[Iterator[Piece]], Iterable[Record]]) -> int:
    """Records with text or tokens (of instructions: messages, or prompt and completion), id, doc_id, source, row,
    window, n_tokens and the key; how many. source: makes the records of pieces.

    Where the rule weighs, with sample_weight as well (mean 1 over what is kept).
    A window's text is the part of its document that its tokens cover.
    """
    return write_records(source(_pieces(selection)), output)


def file_output(path: str | Path, known: tuple[str, ...]) -> Output:
    """A file or URL whose suffix is among those known. Errors: SamplewiseError for another."""
    place, name = parent_of(str(path))
    for suffix in known:
        if name.lower().endswith(suffix):
            return Output(place, name, suffix[1:])
    raise SamplewiseError(
        "--out", expected=f"a file ending in {' or '.join(known)}", got=name, remedy="Name a file with such an ending."
    )


def _copy(selection: Selection, query: str, output: Output, form: str) -> None:
    with output.whole() as temporary:
        quoted = str(temporary).replace("'", "''")
        selection.connection.execute(f"COPY ({query}) TO '{quoted}' ({form}, USE_TMP_FILE false)")


def _pieces(selection: Selection) -> Iterator[Piece]:
    """In the order in which the corpus is read. A window starts where those before it in its document end."""
    whole = selection.choice.unit == "document"
    kept = f"SELECT DISTINCT doc_id FROM {selection.view} WHERE kept"
    query = f'SELECT * FROM {selection.view} WHERE doc_id IN ({kept}) ORDER BY source, row, "window"'
    names = (
        ("doc_id", "source", "row", "n_tokens") if whole else ("id", "doc_id", "source", "row", "window", "n_tokens")
    )
    before: tuple[str, int] | None = None
    end = 0
    for batch in selection.connection.sql(query).fetch_record_batch(4096):
        for each in batch.to_pylist():
            place = each["source"], each["row"]
            end = 0 if place != before else end
            before, start, end = place, end, end + each["n_bytes"]
            if each["kept"]:
                own = {k: each[k] for k in names} | {selection.choice.by: each["key"]}
                own |= {"sample_weight": each["weight"]} if selection.weighs else {}
                yield Piece(*place, start, None if whole else each["n_bytes"], own)

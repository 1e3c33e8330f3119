"""Files of a selection: ids, sample weights or texts; each is written under a temporary name and renamed."""

from __future__ import annotations

import gzip
import json
from collections.abc import Iterable, Iterator
from itertools import islice
from pathlib import Path
from typing import Any

from samplewise.core.errors import SamplewiseError, missing_extra
from samplewise.core.replaced import replaced
from samplewise.corpus.select import Selection
from samplewise.corpus.texts import Piece, records_of
from samplewise.data.conversation import Conversation
from samplewise.data.read import Document

IDS, WEIGHTS, TEXTS = (".parquet", ".txt"), (".parquet",), (".jsonl", ".jsonl.gz", ".jsonl.zst", ".parquet")


def write_ids(selection: Selection, path: Path) -> None:
    """The ids of what is kept (of documents: doc_id): .parquet, or .txt with one a line.

    In the order of the scores; documents, and what rules weigh in memory, by source, row and window.
    """
    name = "id" if selection.choice.unit == "window" else "doc_id"
    form = "FORMAT parquet" if suffix_of(path, IDS) == ".parquet" else "FORMAT csv, HEADER false"
    _copy(selection, f"SELECT {name} FROM {selection.view} WHERE kept{_in_order(selection)}", path, form)


def write_weights(selection: Selection, path: Path) -> None:
    """Every sample of the scores with its `sample_weight`: 0 for what is left out, a mean of 1 over what is kept.

    In order as `write_ids`, but that what cannot be ranked comes last where no rule weighs.
    """
    suffix_of(path, WEIGHTS)
    names = 'id, doc_id, source, row, "window"' if selection.choice.unit == "window" else "doc_id, source, row"
    kept = f"SELECT {names}, CASE WHEN kept THEN weight ELSE 0 END AS sample_weight FROM {selection.view}"
    rest = f"SELECT {names}, 0 AS sample_weight FROM everyone WHERE NOT coalesce(isfinite(key) AND n_tokens > 0, false)"
    whole = f"{kept} UNION ALL {rest}{_in_order(selection)}"
    _copy(selection, whole, path, "FORMAT parquet, COMPRESSION zstd")


def _in_order(selection: Selection) -> str:
    """Weights are joined by id and documents grouped, which keeps no order; a sort of either costs little beside it."""
    if not selection.weighs and selection.choice.unit == "window":
        return ""
    return ' ORDER BY source, row, "window"' if selection.choice.unit == "window" else " ORDER BY source, row"


def write_texts(selection: Selection, path: Path, documents: Iterable[Document | Conversation]) -> int:
    """Records with text (of instructions: messages, or prompt and completion), id, doc_id, source, row, window,
    n_tokens and the key; how many. documents: of the corpus.

    Where the rule weighs, with sample_weight as well (mean 1 over what is kept).
    A window's text is the part of its document that its tokens cover.
    """
    suffix = suffix_of(path, TEXTS)
    with replaced(path) as temporary:
        records = records_of(_pieces(selection), documents)
        return _write_parquet(temporary, records) if suffix == ".parquet" else _write_lines(temporary, suffix, records)


def suffix_of(path: Path, known: tuple[str, ...]) -> str:
    """The suffix of a path among those known. Errors: SamplewiseError for another."""
    for suffix in known:
        if path.name.lower().endswith(suffix):
            return suffix
    raise SamplewiseError(
        "--out",
        expected=f"a file ending in {' or '.join(known)}",
        got=path.name,
        remedy="Name a file with such an ending.",
    )


def _copy(selection: Selection, query: str, path: Path, form: str) -> None:
    with replaced(path) as temporary:
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


def _write_lines(path: Path, suffix: str, records: Iterable[dict[str, Any]]) -> int:
    count = 0
    with path.open("wb") as raw, _compressed(raw, suffix) as file:
        for record in records:
            file.write(json.dumps(record, ensure_ascii=False).encode() + b"\n")
            count += 1
    return count


def _compressed(raw: Any, suffix: str) -> Any:
    if suffix == ".jsonl.gz":
        return gzip.GzipFile(fileobj=raw, mode="wb", mtime=0)
    if suffix == ".jsonl.zst":
        try:
            import zstandard
        except ImportError:
            raise missing_extra("zstandard", "corpus", ".zst") from None
        return zstandard.ZstdCompressor(level=6).stream_writer(raw, closefd=False)
    return raw


def _write_parquet(path: Path, records: Iterable[dict[str, Any]]) -> int:
    import pyarrow as pa
    import pyarrow.parquet as pq

    writer, count = None, 0
    try:
        rest = iter(records)
        while some := list(islice(rest, 2000)):
            table = pa.Table.from_pylist(some)
            writer = writer or pq.ParquetWriter(path, table.schema, compression="zstd")
            writer.write_table(table.cast(writer.schema))
            count += len(some)
    finally:
        if writer:
            writer.close()
    return count

"""One function a file format, each yielding (line, record or `Problem`) for every record that a file holds.

Everything is streamed except JSON that is not one object a line.
"""

from __future__ import annotations

import csv
import gzip
import io
import zlib
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path, PurePath
from typing import Any, BinaryIO

from samplewise.core.errors import SamplewiseError, missing_extra
from samplewise.core.exhausted import wanting
from samplewise.data.arrow import unpadded_row
from samplewise.data.compression import COMPRESSED, decompressed
from samplewise.data.json_files import read_json, read_json_lines
from samplewise.data.lines import TextLines, TooLongLine
from samplewise.data.records import LONGEST, Problem, Record, bad_encoding, decode, fix_or_skip, too_long
from samplewise.data.signatures import ARROW_FILE, ARROW_STREAM, PARQUET, foreign, is_tar
from samplewise.data.webdataset import read_tar

AT_ONCE = 16
"""Rows of a Parquet file that are unpacked at a time: a few kilobytes of it can hold rows of hundreds of megabytes."""
Wanted = str | tuple[str, ...] | None
Read = Callable[[BinaryIO, Wanted], Iterator[tuple[int | None, Record]]]


def read_text(file: BinaryIO, field: Wanted) -> Iterator[tuple[int | None, Record]]:
    """The whole file as one document."""
    data = file.read(LONGEST + 1)
    found = too_long() if len(data) > LONGEST else decode(data)
    del data
    yield None, found


def read_csv(file: BinaryIO, field: Wanted) -> Iterator[tuple[int | None, Record]]:
    """One row a document, the fields named by the header."""
    # surrogateescape: a bad byte then spoils its own row and not the rest of the file.
    with io.TextIOWrapper(file, encoding="utf-8-sig", errors="surrogateescape", newline="") as text:
        rows = csv.reader(TextLines(text), strict=True)
        header: list[str] | None = None
        while True:
            try:
                row = _next_row(rows)
            except TooLongLine:
                yield rows.line_num, too_long()
                continue
            except csv.Error as error:
                yield rows.line_num, _corrupt_csv("rows of comma-separated values", str(error))
                continue
            if row is None:
                return
            if header is None:
                header = row
            elif len(row) == len(header):
                yield rows.line_num, dict(zip(header, row, strict=True))
            elif row:
                yield rows.line_num, _corrupt_csv(f"{len(header)} values, as in the header", f"{len(row)} values")


def _next_row(rows: Iterator[list[str]]) -> list[str] | None:
    before = csv.field_size_limit(LONGEST)  # global to the process: its default refuses documents above 128 kB
    try:
        return next(rows, None)
    finally:
        csv.field_size_limit(before)


def _corrupt_csv(expected: str, got: str) -> Problem:
    return Problem("corrupt CSV", expected, got, fix_or_skip("row"))


def read_parquet(file: BinaryIO, field: Wanted) -> Iterator[tuple[int | None, Record]]:
    """One row a document; only the columns wanted are read, all of them without one, and those without Arrow's padding.

    The first of several must be there, and of `a.b` the column a is read.
    """
    try:
        import pyarrow.parquet
    except ModuleNotFoundError:
        raise missing_extra("pyarrow", "corpus", ".parquet") from None
    table = pyarrow.parquet.ParquetFile(file)
    columns = _columns(table.schema_arrow.names, field)
    if columns is None:
        yield None, dict.fromkeys(table.schema_arrow.names)  # for the message
        return
    yield from _rows(table.iter_batches(batch_size=AT_ONCE, columns=columns), table.schema_arrow)


def read_arrow(file: BinaryIO, field: Wanted) -> Iterator[tuple[int | None, Record]]:
    """An Arrow stream or file, such as `Dataset.save_to_disk` writes, batch by batch; as in `read_parquet`."""
    try:
        import pyarrow
    except ModuleNotFoundError:
        raise missing_extra("pyarrow", "corpus", ".arrow") from None
    mark = file.read(len(ARROW_FILE))
    file.seek(0)
    if mark == ARROW_FILE:
        whole = pyarrow.ipc.open_file(file)
        schema, batches = whole.schema, (whole.get_batch(i) for i in range(whole.num_record_batches))
    else:
        stream = pyarrow.ipc.open_stream(file)
        schema, batches = stream.schema, iter(stream)
    columns = _columns(schema.names, field)
    if columns is None:
        yield None, dict.fromkeys(schema.names)
        return
    yield from _rows((batch.select(columns) for batch in batches), schema)


def _columns(names: list[str], field: Wanted) -> list[str] | None:
    """The columns to read, or None where the first one wanted is not there."""
    fields = (field,) if isinstance(field, str) else field
    if not fields:
        return names
    if fields[0] not in names:
        return None
    return [name for name in names if any(f"{each}.".startswith(f"{name}.") for each in fields)]


def _rows(batches: Iterable[Any], schema: Any) -> Iterator[tuple[int | None, Record]]:
    kinds = {own.name: own.type for own in schema}
    for batch in batches:
        large = batch.nbytes > LONGEST
        for row in range(batch.num_rows):
            if large and batch.slice(row, 1).nbytes > LONGEST:
                yield None, too_long()
                continue
            try:
                found = {name: batch.column(name)[row].as_py() for name in batch.schema.names}
                yield None, unpadded_row(found, kinds, text=True)
            except UnicodeDecodeError as error:
                yield None, bad_encoding(error)


FORMATS: dict[str, Read] = {
    ".txt": read_text,
    ".jsonl": read_json_lines,
    ".json": read_json,
    ".csv": read_csv,
    ".parquet": read_parquet,
    ".arrow": read_arrow,
    ".tar": read_tar,
}
COLUMNS = (".parquet", ".arrow")
"""Formats that compress by themselves, if at all, and must be opened as they are."""


def format_of(path: PurePath) -> str | None:
    """The known suffix of a file without that of its compression, or None.

    >>> format_of(Path("a.jsonl.gz")), format_of(Path("v1.2.txt")), format_of(Path("a.gz"))
    ('.jsonl', '.txt', None)
    """
    compressed = path.suffix.lower() in COMPRESSED
    suffix = (path.with_suffix("") if compressed else path).suffix.lower()
    return suffix if suffix in FORMATS and not (compressed and suffix in COLUMNS) else None


def _by_content(head: bytes) -> Read | None:
    """The reader of tables whatever they are named."""
    if head.startswith(PARQUET):
        return read_parquet
    return read_arrow if head.startswith(ARROW_FILE) or ARROW_STREAM.match(head) else None


def read_records(path: Path, field: Wanted) -> Iterator[tuple[int | None, Record]]:
    """Every record of a file, as (line where there are lines, record); a file that breaks off ends in a `Problem`.

    field: the only one that is needed, or several, which spares the others' reading in columns; None: all.
    """
    try:
        with path.open("rb") as raw:
            file, head = decompressed(raw, path)
            read = _by_content(head) or FORMATS[format_of(path) or ""]
            problem = None if read is read_tar and (is_tar(head) or not head) else foreign(head)
            yield from read(file, field) if problem is None else [(None, problem)]
    except (SamplewiseError, MemoryError):
        raise
    except UnicodeDecodeError as error:  # of a file in UTF-16
        yield None, bad_encoding(error)
    except (EOFError, zlib.error, gzip.BadGzipFile) as error:
        yield None, Problem("truncated or corrupt file", "a whole file", str(error), fix_or_skip("file"))
    except OSError as error:
        if wanting(error):  # of file handles: the file is none the worse
            raise
        reason = error.strerror or str(error)
        yield None, Problem("unreadable file", "a readable file", reason, "Check the file and its permissions.")
    except Exception as error:  # pyarrow and zstandard have their own exceptions, and are imported only where needed
        got = f"{type(error).__name__}: {str(error).splitlines()[0] if str(error) else ''}"
        yield None, Problem("truncated or corrupt file", "a whole file", got, fix_or_skip("file"))

"""JSON Lines, as they are or compressed, in one file or several."""

from __future__ import annotations

import gzip
import json
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from datetime import date, datetime, time
from pathlib import Path
from typing import Any

from samplewise.core.errors import SamplewiseError, missing_extra
from samplewise.corpus.writers.output import Output


def write_lines(path: Path, records: Iterable[dict[str, Any]], output: Output) -> int:
    """Write a record a line. Files of a folder end with the record that takes their text past `shard_bytes`."""
    rest, count, shard = (line_of(record) for record in records), 0, 0
    line = next(rest, None)
    while line is not None or not shard:
        name = path / f"part-{shard:05d}.{output.format}" if output.folder else path
        size, shard = 0, shard + 1
        with name.open("wb") as raw, compressed(raw, output.format) as file:
            while line is not None and (output.shard_bytes is None or size < output.shard_bytes):
                file.write(line)
                size, count, line = size + len(line), count + 1, next(rest, None)
        if line is None:
            break
    return count


def line_of(record: dict[str, Any]) -> bytes:
    """A record as a line of JSON; times of a table as ISO 8601 text. Errors: SamplewiseError for what is no JSON."""
    try:
        return json.dumps(record, ensure_ascii=False, default=_as_json).encode() + b"\n"
    except (TypeError, ValueError) as error:
        raise SamplewiseError(
            "records", expected="values that JSON can hold", got=" ".join(str(error).split())[:200],
            remedy="Write Parquet: --format parquet, or --out FILE.parquet.",
        ) from None  # fmt: skip


def _as_json(value: Any) -> str:
    if isinstance(value, datetime | date | time):
        return value.isoformat()
    raise TypeError(f"a value of the type {type(value).__name__}")


@contextmanager
def compressed(raw: Any, format: str) -> Iterator[Any]:
    """The file to write lines into, by the format's suffix."""
    if format.endswith(".gz"):
        with gzip.GzipFile(fileobj=raw, mode="wb", mtime=0) as file:
            yield file
    elif format.endswith(".zst"):
        try:
            import zstandard
        except ModuleNotFoundError:
            raise missing_extra("zstandard", "corpus", ".zst") from None
        with zstandard.ZstdCompressor(level=6).stream_writer(raw, closefd=False) as file:
            yield file
    else:
        yield raw

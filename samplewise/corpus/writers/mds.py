"""Shards of MosaicML Streaming, version 2 of the format, without its package, which asks for transformers below 5.

A shard: the number of samples and where each begins, both uint32, then its own description as JSON, then the samples.
A sample: the lengths, uint32, of its columns without a fixed size, then the columns by name.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from samplewise.corpus.writers.output import Output
from samplewise.corpus.writers.tables import Tables, tables

if TYPE_CHECKING:
    import numpy as np
else:
    from samplewise.core.lazy import numpy as np

SHARD_BYTES = 2**26
"""The package's own default."""
ENCODINGS = {"int64": "int64", "double": "float64", "string": "str"}
TOKENS = "ndarray:int32"


def write_mds(path: Path, records: Iterable[dict[str, Any]], output: Output) -> int:
    """Write shards of at most `shard_bytes` and their index.

    Texts, whole and real numbers are stored as such, a column `tokens` of whole numbers as an int32 array; columns of
    other types, or with nulls, as JSON.
    """
    limit = output.shard_bytes or SHARD_BYTES
    with tables(records) as found:
        encodings = _encodings(found)
        described = _described(encodings, limit)
        head = len(json.dumps(described, sort_keys=True).encode()) + 8
        shards: list[dict[str, Any]] = []
        samples: list[bytes] = []
        size = head
        for table in found.batches():
            for record in table.to_pylist():
                sample = _sample(record, encodings)
                if samples and size + len(sample) + 4 > limit:
                    shards.append(_write_shard(path, len(shards), samples, described))
                    samples, size = [], head
                samples.append(sample)
                size += len(sample) + 4
        if samples:
            shards.append(_write_shard(path, len(shards), samples, described))
        (path / "index.json").write_text(json.dumps({"version": 2, "shards": shards}, sort_keys=True))
        return found.rows


def _encodings(found: Tables) -> dict[str, str]:
    """The encoding of each column, sorted by name."""
    chosen = {}
    for field in sorted(found.schema, key=lambda field: field.name):
        if field.name == "tokens" and str(field.type).startswith("list<") and not found.nulls[field.name]:
            chosen[field.name] = TOKENS
        else:
            chosen[field.name] = "json" if found.nulls[field.name] else ENCODINGS.get(str(field.type), "json")
    return chosen


def _described(encodings: dict[str, str], limit: int) -> dict[str, Any]:
    sizes = [8 if encoding in ("int64", "float64") else None for encoding in encodings.values()]
    return {
        "version": 2, "format": "mds", "compression": None, "hashes": [], "size_limit": limit,
        "column_names": list(encodings), "column_encodings": list(encodings.values()), "column_sizes": sizes,
    }  # fmt: skip


def _sample(record: dict[str, Any], encodings: dict[str, str]) -> bytes:
    data = [_encoded(record[name], encoding) for name, encoding in encodings.items()]
    sizes = [len(own) for own, encoding in zip(data, encodings.values(), strict=True)
             if encoding not in ("int64", "float64")]  # fmt: skip
    return np.array(sizes, np.uint32).tobytes() + b"".join(data)


def _encoded(value: Any, encoding: str) -> bytes:
    if encoding == "str":
        return value.encode()
    if encoding in ("int64", "float64"):
        return np.dtype(encoding).type(value).tobytes()
    if encoding == TOKENS:
        return bytes([1 << 2 | 2]) + np.uint32(len(value)).tobytes() + np.array(value, np.int32).tobytes()
    return json.dumps(value, default=str).encode()


def _write_shard(path: Path, number: int, samples: list[bytes], described: dict[str, Any]) -> dict[str, Any]:
    name, text = f"shard.{number:05d}.mds", json.dumps(described, sort_keys=True).encode()
    begins = np.cumsum([0, *map(len, samples)], dtype=np.int64) + 4 + 4 * (len(samples) + 1) + len(text)
    head = np.uint32(len(samples)).tobytes() + begins.astype(np.uint32).tobytes() + text
    (path / name).write_bytes(b"".join([head, *samples]))
    size = (path / name).stat().st_size
    raw = {"basename": name, "bytes": size, "hashes": {}}
    return {"samples": len(samples), "raw_data": raw, "zip_data": None, **described}

"""Scores of records as `samplewise score` writes them, one window each, with losses that are given: no model."""

import json
from pathlib import Path
from typing import Any

from samplewise.corpus.manifest import Manifest, write_manifest
from samplewise.corpus.place import Place
from samplewise.corpus.table import COLUMNS, OPTIONAL, write_shard
from samplewise.data.fields import as_text, field_of
from samplewise.data.ids import document_id, window_id


def write_records(path: Path, records: list[dict[str, Any]]) -> Path:
    path.write_text("".join(json.dumps(record) + "\n" for record in records))
    return path


def write_scores(
    folder: Path, data: Path, records: list[dict[str, Any]], *, losses: list[float] | None = None,
    keep: tuple[str, ...] = (), tokens: list[int] | None = None, field: str = "text", **settings: Any,
) -> Path:  # fmt: skip
    """The scores of a file that holds these records. losses: 0, 1, 2, … where none are given; tokens: 4 each."""
    n = len(records)
    types = {name: kind for name, kind in COLUMNS.items() if name not in OPTIONAL} | dict.fromkeys(keep, "string")
    texts = [str(record.get(field, "")) for record in records]
    columns: dict[str, list[Any]] = {name: [1.0] * n for name in types} | {
        "id": [window_id(data.name, i, 0) for i in range(n)], "doc_id": [document_id(data.name, i) for i in range(n)],
        "source": [data.name] * n, "row": list(range(n)), "window": [0] * n, "n_tokens": tokens or [4] * n,
        "n_bytes": [len(text.encode()) for text in texts], "loss": losses or [float(i) for i in range(n)],
    }  # fmt: skip
    columns |= {name: [as_text(field_of(record, name)) for record in records] for name in keep}
    shard = write_shard(Place(folder), "shard-00000.parquet", columns, types)
    facts = {"settings": {"text_field": field, **settings}}
    manifest = Manifest(
        rows_in=n, rows_scored=n, rows_quarantined=0, windows=n, tokens=sum(columns["n_tokens"]), shards=[shard],
        columns=types, fingerprints=facts, made={"data": str(data)},
    )  # fmt: skip
    write_manifest(Place(folder), manifest)
    return folder

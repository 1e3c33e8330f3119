"""A folder of scores made of given texts, without a model."""

from pathlib import Path

from samplewise.corpus.manifest import Manifest, write_manifest
from samplewise.corpus.place import Place
from samplewise.corpus.table import COLUMNS, OPTIONAL, write_shard
from samplewise.data.ids import document_id, window_id


def write_scored_texts(path: Path, rows: list[tuple[str, float, int, str]], *, text: bool = True) -> Path:
    """rows: (source, loss, tokens, text), one document each. text: whether the scores keep it."""
    types = {name: kind for name, kind in COLUMNS.items() if name not in OPTIONAL or (text and name == "text")}
    columns: dict[str, list] = {name: [] for name in types}
    for row, (source, loss, tokens, content) in enumerate(rows):
        values = {
            "id": window_id(source, row, 0), "doc_id": document_id(source, row), "source": source, "row": row,
            "window": 0, "n_tokens": tokens, "n_bytes": len(content.encode()) + 1, "loss": loss, "text": content,
        }  # fmt: skip
        for name, own in columns.items():
            own.append(values.get(name, loss))
    shard = write_shard(Place(path), "shard-00000.parquet", columns, types)
    made = {"model": "a model <b>", "data": "texts & more"}
    counts = {"rows_in": len(rows) + 2, "rows_scored": len(rows), "rows_quarantined": 2, "windows": len(rows)}
    tokens = sum(columns["n_tokens"])
    manifest = Manifest(**counts, tokens=tokens, shards=[shard], columns=types, reasons={"bad encoding": 2}, made=made)
    write_manifest(Place(path), manifest)
    return path

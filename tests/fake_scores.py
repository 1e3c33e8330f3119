"""Folders of made-up scores, as `samplewise score` leaves them, of any size: no model takes part."""

from pathlib import Path
from typing import Any

import numpy as np

from samplewise.corpus.manifest import Manifest, Shard, write_manifest
from samplewise.corpus.place import Place
from samplewise.corpus.table import COLUMNS, OPTIONAL, write_shard

TEXT = "The quick brown fox jumps over the lazy dog, and the row says who it is: "


def write_fake_scores(
    path: Path | str, rows: int = 1000, *, shard_rows: int = 400, sources: int = 3, text: bool = True,
    completion: bool = False, groups: int = 0, added: tuple[str, ...] = (), seed: int = 0,
) -> Path | str:  # fmt: skip
    """`rows` windows in shards; about one document in five has two windows. Losses: gamma-shaped about 3 nats/token.

    added: names of further columns, a reference's losses near the first. text, completion, groups: optional columns.
    """
    place = Place(path)
    have = {"text": text, "completion_loss": completion, "completion_tokens": completion, "group": groups > 0}
    types = {name: kind for name, kind in COLUMNS.items() if name not in OPTIONAL or have.get(name)}
    shards: list[Shard] = []
    extra: dict[str, list[Shard]] = {name: [] for name in added}
    documents = tokens = 0
    for index, start in enumerate(range(0, rows, shard_rows)):
        draw = np.random.default_rng((seed, index))
        columns = _columns(start, min(shard_rows, rows - start), draw, sources, groups)
        if text:
            columns["text"] = [f"{TEXT}{start + i}" for i in range(len(columns["id"]))]
        name = f"shard-{index:05d}.parquet"
        shards.append(write_shard(place, name, columns, types))
        documents += int((columns["window"] == 0).sum())
        tokens += int(columns["n_tokens"].sum())
        for each in added:
            values = columns["loss"] + draw.normal(0.1, 0.3, len(columns["id"])).astype(np.float32)
            kinds = {"id": "int64", each: "float"}
            own = write_shard(place, f"columns/{each}/{name}", {"id": columns["id"], each: values}, kinds)
            extra[each].append(Shard(name, own.rows, own.bytes, own.sha256))
    made = {"model": "none", "data": "made up"}
    common = {"rows_in": documents, "rows_scored": documents, "rows_quarantined": 0, "windows": rows, "tokens": tokens}
    write_manifest(place, Manifest(**common, shards=shards, columns=types, made=made))
    for each in added:
        kinds = {"id": "int64", each: "float"}
        write_manifest(place, Manifest(**common, shards=extra[each], columns=kinds, made=made), f"columns/{each}")
    return path


def _columns(start: int, count: int, draw: np.random.Generator, sources: int, groups: int) -> dict[str, Any]:
    """Row r is document r - (r % 5 == 1), so that rows 5k and 5k + 1 are the two windows of one."""
    row = np.arange(start, start + count)
    window = (row % 5 == 1).astype(np.int32)
    document = row - window
    loss = draw.gamma(9, 1 / 3, count).astype(np.float32)
    n_tokens = draw.integers(1, 512, count, dtype=np.int32)
    return {
        "id": row * 7919 + 1, "doc_id": document * 7919 + 2, "source": [f"part-{r % sources}.jsonl" for r in document],
        "row": document, "window": window, "n_tokens": n_tokens, "n_bytes": n_tokens * 4,
        "loss": loss, "loss_q10": loss * 0.1, "loss_q50": loss * 0.8, "loss_q90": loss * 2,
        "completion_loss": loss * 0.9, "completion_tokens": n_tokens // 2,
        "group": [f"domain {r % max(groups, 1)}" for r in row],
    }  # fmt: skip

"""Scoring in this process, and folders to compare."""

import hashlib
from pathlib import Path
from typing import Any

import pyarrow as pa

from samplewise.corpus import Manifest, Scores, open_scores
from samplewise.corpus.score import score_corpus
from samplewise.corpus.settings import Target
from samplewise.corpus.verify import REMEMBERED

SMALL: dict[str, Any] = {"max_length": 32, "min_tokens": 4, "shard_bytes": 4000}


def score(model, data, out, *, column=None, strict=False, engine="local", workers=1, **given) -> Manifest:
    target = Target(str(model), str(data), str(out), column, "float32", strict)
    manifest = score_corpus(target, engine=engine, workers=workers, say=lambda line: None, **{**SMALL, **given})
    assert manifest is not None
    return manifest


def table(scores: Scores | Path | str) -> pa.Table:
    scores = scores if isinstance(scores, Scores) else open_scores(scores)
    return pa.Table.from_batches(list(scores.batches()))


def digests(folder: Path) -> dict[str, str]:
    """Every file below a folder, by its content; but for what remembers times."""
    return {
        path.relative_to(folder).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(folder.rglob("*"))
        if path.is_file() and path.name != REMEMBERED
    }

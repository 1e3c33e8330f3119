"""Importance by hashed n-grams against a target text, without any model (DSIR, Xie et al. 2023, arXiv 2302.03169)."""

from __future__ import annotations

import re
import zlib
from collections.abc import Iterable, Iterator
from dataclasses import replace
from itertools import islice, pairwise
from typing import Any

import numpy as np

from samplewise import __version__
from samplewise.core.errors import SamplewiseError
from samplewise.corpus.manifest import Manifest, Shard, write_manifest
from samplewise.corpus.reread import read_again
from samplewise.corpus.store import ADDED, Scores, check_name
from samplewise.corpus.table import write_shard
from samplewise.corpus.texts import Piece, records_of
from samplewise.data.read import Document, read_documents

BUCKETS = 10_000
"""Of the hash of a word or a pair of words, as in the paper."""
MIN_WORDS = 1000
"""Of the target: fewer say nothing of most buckets."""
WORDS = re.compile(r"\w+|[^\w\s]+")


def features(text: str) -> np.ndarray:
    """[F] int64, the buckets of a text's words and pairs of words.

    >>> len(features("To be, or not"))
    9
    """
    words = WORDS.findall(text.lower())
    grams = [*words, *map(" ".join, pairwise(words))]
    return np.fromiter((zlib.crc32(each.encode("utf-8", "replace")) % BUCKETS for each in grams), np.int64, len(grams))


def distribution(texts: Iterable[str]) -> tuple[np.ndarray, int]:
    """([BUCKETS] log-probabilities with one added to each count, features counted)."""
    counts = np.zeros(BUCKETS)
    for text in texts:
        counts += np.bincount(features(text), minlength=BUCKETS)
    total = int(counts.sum())
    return np.log((counts + 1) / (total + BUCKETS)), total


def add_importance(scores: Scores, target: str, name: str, data: str | None = None, text_field: str = "text") -> int:
    """Add the column `name`: sum over a window's n-grams g of log p_target(g) − log p_corpus(g), over their number.

    target: a file or folder of texts. The corpus is read twice: for its distribution, and for the windows.
    Divided by the number of n-grams, it does not grow with the length of a window; the paper's is the sum.
    Returns the number of windows. Errors: SamplewiseError for a target of too few words, scores of conversations, a
    column that is there, and a corpus that has changed.
    """
    if check_name(name) in scores.columns:
        raise SamplewiseError("--as", expected="a name that no column has", got=name, remedy="Choose another name.")
    wanted, count = distribution(each.text for each in read_documents(target, text_field=text_field))
    if count < 2 * MIN_WORDS:
        raise SamplewiseError(
            "--target", expected=f"a text of at least {MIN_WORDS:,} words", got=f"about {(count + 1) // 2:,}",
            remedy="Give more text of the target: n-grams that it never has cannot be told from those it seldom has.",
        )  # fmt: skip
    there, _ = distribution(each.text for each in _documents(scores, data))
    ratio, shards = wanted - there, []
    texts = _texts(scores, data)
    for shard in scores.manifest.shards:
        found = list(islice(texts, shard.rows))
        values = np.array([_mean(ratio, text) for _, text in found], np.float32)
        columns = {"id": np.array([own for own, _ in found], np.int64), name: values}
        own = write_shard(scores.place, f"{ADDED}/{name}/{shard.name}", columns, {"id": "int64", name: "float"})
        shards.append(Shard(shard.name, own.rows, own.bytes, own.sha256))
    _finish(scores, name, shards, target)
    return sum(shard.rows for shard in shards)


def _mean(ratio: np.ndarray, text: str) -> float:
    found = features(text)
    return float(ratio[found].mean()) if len(found) else 0.0


def _documents(scores: Scores, data: str | None) -> Iterator[Document]:
    for each in read_again(scores.manifest, data):
        if not isinstance(each, Document):
            raise SamplewiseError(
                "scores", expected="scores of texts", got="scores of conversations",
                remedy="Importance is of texts: score with --kind text.",
            )  # fmt: skip
        yield replace(each, record=None)


def _texts(scores: Scores, data: str | None) -> Iterator[tuple[int, str]]:
    """(id, text) of every window, in the order of the scores."""
    records = records_of(_pieces(scores), _documents(scores, data), "text")
    return ((record["own_id"], record["text"]) for record in records)


def _pieces(scores: Scores) -> Iterator[Piece]:
    before: tuple[str, int] | None = None
    end = 0
    for batch in scores.batches(["id", "source", "row", "n_bytes"]):
        for row in batch.to_pylist():
            place = row["source"], row["row"]
            start = 0 if place != before else end
            before, end = place, start + row["n_bytes"]
            yield Piece(*place, start, row["n_bytes"], {"own_id": row["id"]})


def _finish(scores: Scores, name: str, shards: list[Shard], target: str) -> None:
    base = scores.manifest
    facts: dict[str, Any] = {"corpus": base.fingerprints.get("corpus"), "buckets": BUCKETS}
    manifest = Manifest(
        rows_in=base.rows_scored, rows_scored=base.rows_scored, rows_quarantined=0, windows=base.windows,
        tokens=base.tokens, shards=shards, columns={"id": "int64", name: "float"}, fingerprints=facts,
        made={"target": target, "samplewise": __version__},
    )  # fmt: skip
    write_manifest(scores.place, manifest, f"{ADDED}/{name}")

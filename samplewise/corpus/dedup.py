"""The whole of `samplewise dedup`: a corpus without its duplicates, the list of what went, and a statement."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import asdict
from typing import Any

from samplewise.core.errors import SamplewiseError
from samplewise.corpus.dedup_passes import Deduplication
from samplewise.corpus.dedup_read import Corpus, Found
from samplewise.corpus.guard import inputs, refuse_inputs
from samplewise.corpus.mirrored import write_mirrored
from samplewise.corpus.removed import Removed
from samplewise.corpus.statement import write_statement
from samplewise.corpus.writers import Output, output_of, write_records
from samplewise.corpus.writers.output import FILES, TOKENS, check_free, parent_of
from samplewise.data.records import Problem
from samplewise.data.sketch import JACCARD

MIRRORED = "mirrored"
LOWEST = 0.7
"""Similarity down to which the bands find 99% of all pairs."""


def deduplicate_corpus(
    corpus: Corpus, output: Output, *, similarity: float = JACCARD, say: Callable[[str], object] = print
) -> dict[str, Any]:
    """Write a corpus without its duplicates, the list of what went, and a statement; returns the statement.

    Records keep all their fields. Errors: SamplewiseError for bad arguments, before anything is read, and for a corpus
    without a text, or one that changes meanwhile.
    """
    if not LOWEST <= similarity <= 1:
        raise SamplewiseError(
            "--similarity",
            expected=f"from {LOWEST} to 1",
            got=similarity,
            remedy="Take 0.8; 1 finds the same text only.",
        )
    refuse_inputs("--out", str(output), inputs(None, corpus.data))
    check_free(output)
    run, listed = Deduplication(corpus, similarity), corpus.listed()
    suspects = run.first_pass(listed)
    removed = Removed(run.places)
    kept = _write(run.second_pass(listed, suspects, removed), output)
    removed.write(Output(output.place, f"{output.name}.removed.parquet", "parquet"))
    said = {
        "corpus": asdict(corpus), "similarity": similarity,
        "records": {
            "in": len(run.places) + run.unread.total(), "kept": kept, "exact": removed.exact,
            "near": len(removed.texts) - removed.exact, "without_text": run.unread.total(),
        },
        "without_text": dict(run.unread), "without_text_first": run.unread_places, **removed.examples(),
    }  # fmt: skip
    write_statement(output.place, output.statement, said)
    for line in _sentences(said, output):
        say(line)
    return said


def dedup_output(path: str, format: str | None, shard_size: str | None) -> Output:
    """As `output_of`; a folder without a format mirrors the files of the corpus."""
    place, name = parent_of(path)
    if format is None and shard_size is None and not name.lower().endswith(tuple(f".{known}" for known in FILES)):
        return Output(place, name, MIRRORED, folder=True)
    if format in TOKENS:
        raise SamplewiseError(
            "--format",
            expected="a format of records",
            got=format,
            remedy="Score the corpus first, then select.",
        )
    return output_of(path, format, shard_size)


def _write(kept: Iterator[Found], output: Output) -> int:
    records = ((found.source, _record(found)) for found in kept)
    if output.format != MIRRORED:
        return write_records((record for _, record in records), output)
    with output.whole() as path:
        return write_mirrored(records, path, output)


def _record(found: Found) -> dict[str, Any]:
    assert not isinstance(found.record, Problem)
    return {"text": found.record} if isinstance(found.record, str) else dict(found.record)


def _sentences(said: dict[str, Any], output: Output) -> Iterator[str]:
    count = said["records"]
    yield f"kept       {count['kept']:,} of {count['in']:,} records ({count['kept'] / count['in']:.1%})"
    yield f"left out   {count['exact']:,} with the same text as a kept one, {count['near']:,} near-duplicates"
    if count["without_text"]:
        reasons = ", ".join(f"{number:,} {reason}" for reason, number in said["without_text"].items())
        yield f"no text    {count['without_text']:,} records ({reasons}), the first in {said['without_text_first'][0]}"
    yield f"records    {output}"
    yield f"list       {output}.removed.parquet"
    yield f"statement  {output}.statement.json"

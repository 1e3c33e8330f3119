"""A file for each file of a corpus, of its name, with the records of it that are kept."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from itertools import groupby
from pathlib import Path, PurePosixPath
from typing import Any

from samplewise.corpus.writers.lines import write_lines
from samplewise.corpus.writers.output import Output
from samplewise.corpus.writers.tables import write_parquet

LINES = (".jsonl", ".jsonl.gz", ".jsonl.zst")


def write_mirrored(kept: Iterable[tuple[str, dict[str, Any]]], path: Path, output: Output) -> int:
    """Write (source, record) after (source, record), sorted by source, below the folder `path`; how many.

    JSON Lines and Parquet stay what they are; a text file is written again as it was; records of other formats
    become JSON Lines, in a file of the source's name with .jsonl after it.
    """
    count = 0
    for source, own in groupby(kept, lambda each: each[0]):
        target = path / named(source)
        target.parent.mkdir(parents=True, exist_ok=True)
        records: Iterator[dict[str, Any]] = (record for _, record in own)
        if target.suffix == ".txt":
            target.write_text(next(records)["text"], encoding="utf-8", newline="")
            count += 1
            continue
        write = write_parquet if target.suffix == ".parquet" else write_lines
        form = next(known[1:] for known in (*LINES, ".parquet") if target.name.endswith(known))
        count += write(target, records, Output(output.place, target.name, form))
    return count


def named(source: str) -> str:
    """The name of the file for a source.

    >>> named("a/b.jsonl.zst"), named("a.csv.gz"), named("a.txt.gz"), named("org/name/train")
    ('a/b.jsonl.zst', 'a.csv.gz.jsonl', 'a.txt', 'org/name/train.jsonl')
    """
    lower = source.lower()
    if lower.endswith((*LINES, ".parquet", ".txt")):
        suffix = next(known for known in (*LINES, ".parquet", ".txt") if lower.endswith(known))
        return source[: len(source) - len(suffix)] + suffix
    for packed in (".txt.gz", ".txt.zst"):
        if lower.endswith(packed):
            return source[: -len(packed)] + ".txt"
    return str(PurePosixPath(source)) + ".jsonl"

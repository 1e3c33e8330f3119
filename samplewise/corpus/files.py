"""The files of a corpus, here or in an object store, in a fixed order, with their sizes and content at hand."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Collection
from pathlib import Path

from samplewise.data.find import find_files
from samplewise.data.records import Problem
from samplewise.data.remote import SourceFile, list_url
from samplewise.data.urls import is_url

Listed = list[tuple[str, SourceFile | Problem]]


def list_corpus(path: str | Path, suffixes: Collection[str]) -> tuple[Listed, Counter[str]]:
    """((source, file) sorted by source, files left out by kind), as `find_files` gives them; also for URLs."""
    if is_url(path):
        return list_url(str(path), suffixes)
    found, left_out = find_files(str(path).removeprefix("file://"), suffixes)
    return [(source, each if isinstance(each, Problem) else _local(each)) for source, each in found], left_out


def fingerprint(files: Listed) -> str:
    """The fingerprint of a corpus: names, sizes and content of its files."""
    found = hashlib.blake2b(digest_size=16)
    for source, file in files:
        own = file.reason if isinstance(file, Problem) else f"{file.size} {_digest(file)}"
        found.update(f"{source}\0{own}\n".encode("utf-8", "surrogateescape"))
    return found.hexdigest()


def _digest(file: SourceFile) -> str:
    try:
        return file.digest()
    except OSError as error:  # it will be quarantined as unreadable
        return f"unreadable {error.strerror}"


def _local(path: Path) -> SourceFile:
    size = path.stat().st_size if path.exists() else 0  # a link to nothing is found unreadable when it is its turn
    return SourceFile(path, size, lambda: path.open("rb"))

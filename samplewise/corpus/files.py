"""The files of a corpus, here or in an object store, in a fixed order, with their sizes and content at hand."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Collection
from pathlib import Path

from samplewise.core.errors import SamplewiseError
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


def refuse_changed(files: Listed) -> None:
    """Raise SamplewiseError where a file here was written to since it was listed, so that nobody knows what was read.

    What was finished before stands: if the content is the same again, or still is, the same command resumes.
    """
    changed = [source for source, file in files if isinstance(file, SourceFile) and _has_changed(file)]
    if changed:
        raise SamplewiseError(
            changed[0], expected="a file that nobody writes to while it is read", got="one that has changed",
            remedy="Let nothing write into the corpus, and run the same command again.",
        )  # fmt: skip


def _has_changed(file: SourceFile) -> bool:
    return file.state is not None and file.state != _state(Path(file.name))


def _state(path: Path) -> tuple[int, int]:
    """Size and time of change; zeros of a file that is gone, and of a link to nothing."""
    try:
        found = path.stat()
    except OSError:
        return 0, 0
    return found.st_size, found.st_mtime_ns


def _digest(file: SourceFile) -> str:
    try:
        return file.digest()
    except OSError as error:  # it will be quarantined as unreadable
        return f"unreadable {error.strerror}"


def _local(path: Path) -> SourceFile:
    state = _state(path)  # a link to nothing is found unreadable when it is its turn
    return SourceFile(path, state[0], lambda: path.open("rb"), state)

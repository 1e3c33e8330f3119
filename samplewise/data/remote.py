"""The files of a corpus wherever it lies, in a fixed order; those of an object store can be opened as those here."""

from __future__ import annotations

import hashlib
import io
from collections import Counter
from collections.abc import Callable, Collection
from dataclasses import dataclass, field
from pathlib import Path, PurePath, PurePosixPath
from typing import Any, BinaryIO

from samplewise.core.errors import SamplewiseError
from samplewise.data.beside import in_words, is_beside, kind_of, refuse_splits, what_to_do
from samplewise.data.find import Found, find_files, unknown_suffix, without_archives
from samplewise.data.formats import FORMATS, format_of
from samplewise.data.records import Problem
from samplewise.data.urls import is_url, open_url

WHOLE, SAMPLES = 2**26, 16
"""Files of up to so many bytes are hashed whole, longer ones at so many places of 1 MiB, first and last among them."""


@dataclass
class SourceFile:
    """One file, which can be opened from the start, and asked how far it has been read.

    state: its size and time of change when it was listed; None of an object in a store.
    """

    name: PurePath
    size: int
    opener: Callable[[], BinaryIO]
    state: tuple[int, int] | None = None
    handle: BinaryIO | None = field(default=None, repr=False)

    @property
    def suffix(self) -> str:
        """The suffix of the name, as `Path.suffix` gives it."""
        return self.name.suffix

    def with_suffix(self, suffix: str) -> PurePath:
        """The same path or URL with another suffix, as `Path.with_suffix` makes it."""
        return self.name.with_suffix(suffix)

    def open(self, mode: str = "rb") -> BinaryIO:
        """Open the file and return a new handle."""
        self.handle = self.opener()
        return self.handle

    def share_read(self) -> float:
        """How much of the file its newest handle has seen."""
        if self.handle is None or self.handle.closed or not self.size:
            return 1.0
        return min(self.handle.tell() / self.size, 1.0)

    def digest(self) -> str:
        """The hash of the content, or of samples of it if the file is long."""
        with self.opener() as file:
            found = hashlib.blake2b(digest_size=16)
            if self.size <= WHOLE:
                while data := file.read(2**20):
                    found.update(data)
                return found.hexdigest()
            for i in range(SAMPLES):
                file.seek(i * (self.size - 2**20) // (SAMPLES - 1))
                found.update(file.read(2**20))
            return found.hexdigest()


def list_files(path: str | Path, suffixes: Collection[str] = tuple(FORMATS)) -> tuple[Found, Counter[str]]:
    """((source, file) sorted by source, files left out by kind), as in `find_files`; of a URL, objects (`SourceFile`)
    in place of paths, which are opened alike.
    """
    if not is_url(path):
        return find_files(str(path).removeprefix("file://"), suffixes)
    found: Any = list_url(str(path), suffixes)
    return found


def list_url(url: str, suffixes: Collection[str]) -> tuple[list[tuple[str, SourceFile | Problem]], Counter[str]]:
    """((source, file) sorted by source, files left out by kind) of an object, folder or glob, as in `find_files`."""
    files, root = open_url(url)
    single = False
    if any(c in root for c in "*?["):
        names = _tried(url, lambda: files.glob(root))
        parts = root.split("/")
        root = "/".join(parts[: next(i for i, part in enumerate(parts) if any(c in part for c in "*?["))])
    elif _tried(url, lambda: files.isfile(root)):
        names, single, root = [root], True, root.rpartition("/")[0]
    else:
        names = _tried(url, lambda: files.find(root))
    sources = sorted((name.removeprefix(root).lstrip("/"), name) for name in names)
    paths = {PurePosixPath(source) for source, _ in sources}
    refuse_splits(url, paths)
    named = {PurePosixPath(source): (source, name) for source, name in sources}
    own = [each for each in named if single or _is_data(each, suffixes, paths)]
    fit = [named[each] for each in without_archives(own)]
    left_out = Counter(map(kind_of, paths - {PurePosixPath(source) for source, _ in fit}))
    if not fit:
        got = f"{len(names)} of other kinds" + (f" ({in_words(left_out)})" if left_out else "")
        raise SamplewiseError(
            url, expected=f"objects of {', '.join(suffixes)}", got=got, remedy=what_to_do(paths).replace("path", "URL")
        )
    if single and format_of(PurePosixPath(fit[0][0])) not in suffixes:
        return [(fit[0][0], unknown_suffix(PurePosixPath(fit[0][0]), suffixes))], left_out
    return [(source, _object(files, name)) for source, name in fit], left_out


def _is_data(file: PurePath, suffixes: Collection[str], every: Collection[PurePath]) -> bool:
    return format_of(file) in suffixes and not is_beside(file, every)


def _object(files: Any, name: str) -> SourceFile:
    def opener() -> BinaryIO:
        return io.BufferedReader(_Steady(_tried(name, lambda: files.open(name, "rb")), name))

    return SourceFile(PurePosixPath(name), _tried(name, lambda: files.size(name)), opener)


class _Steady(io.RawIOBase):
    """A remote file whose failures stop the run: taken for damage, a lost connection would quarantine sound text."""

    def __init__(self, file: Any, name: str) -> None:
        self.file, self.named = file, name

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        data = _tried(self.named, lambda: self.file.read(len(buffer)))
        buffer[: len(data)] = data
        return len(data)

    def seek(self, offset: int, whence: int = 0) -> int:
        return self.file.seek(offset, whence)

    def tell(self) -> int:
        return self.file.tell()


def _tried(name: str, act: Callable[[], Any]) -> Any:
    try:
        return act()
    except Exception as error:  # each file system has its own
        got = f"{type(error).__name__}: {' '.join(str(error).split())}"
        raise SamplewiseError(
            name,
            expected="an object that can be read",
            got=got,
            remedy="Check the URL and the connection, then run the command again.",
        ) from error

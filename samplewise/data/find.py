"""The files of a path, folder or glob in a fixed order, and what is left out of them."""

from __future__ import annotations

import glob
import os
import stat
from collections import Counter
from collections.abc import Collection, Iterator, Sequence
from pathlib import Path, PurePath
from typing import TypeVar

from samplewise.core.errors import SamplewiseError
from samplewise.core.paths import expanded
from samplewise.data.beside import in_words, is_beside, kind_of, refuse_splits, what_to_do
from samplewise.data.compression import COMPRESSED
from samplewise.data.formats import FORMATS, format_of
from samplewise.data.records import Problem
from samplewise.data.signatures import is_lfs_pointer, lfs_pointer

Found = list[tuple[str, Path | Problem]]
AnyPath = TypeVar("AnyPath", bound=PurePath)

POINTER = range(100, 400)
"""Bytes of a Git LFS pointer: three lines."""
_KINDS = {
    stat.S_IFIFO: "a FIFO", stat.S_IFSOCK: "a socket", stat.S_IFCHR: "a device", stat.S_IFBLK: "a device",
    stat.S_IFDIR: "a folder",
}  # fmt: skip


def known(suffixes: Collection[str]) -> str:
    """The suffixes of known file formats, for a message."""
    return f"{', '.join(suffixes)}, each but .parquet and .arrow also with {' or '.join(COMPRESSED)}"


def find_files(path: str | Path, suffixes: Collection[str] = tuple(FORMATS)) -> tuple[Found, Counter[str]]:
    """((source, file) sorted by source, files left out by kind): source is the path relative to the data root.

    suffixes: of `FORMATS`, those that are looked for. In a folder, files of other suffixes are left out, and so are
    metadata, notes such as README.txt and links to folders; what is hidden is not even counted. A glob leaves metadata
    and notes out; else a file that is named, by itself or by a glob, must be of a known suffix. What is no regular
    file, such as a FIFO, is a `Problem`: it is never opened.

    Errors: SamplewiseError where there are no such files, and where Git LFS has left pointers in their place.
    """
    path = expanded(path)
    if path.is_dir():
        found, files, left_out = _in_folder(path, suffixes)
        if not files:
            got = f"{len(found)} files of other kinds ({in_words(left_out)})" if found else "none"
            raise SamplewiseError(
                str(path), expected=f"a folder with files of text ({known(suffixes)})", got=got,
                remedy=what_to_do(found),
            )  # fmt: skip
        return _named(files, path, suffixes), left_out
    if path.is_file():
        return _named([path], path.parent, suffixes), Counter()
    if not glob.has_magic(str(path)):
        got = "nothing of that name"
        if path.exists():
            got = f"{_what_it_is(path)}, which can be read only once" if _what_it_is(path) else "no regular file"
        raise SamplewiseError(
            str(path), expected="a file, a folder, a glob or a datasets name", got=got,
            remedy="Check the path; relative paths start at the current folder.",
        )  # fmt: skip
    return _by_glob(path, suffixes)


def _in_folder(root: Path, suffixes: Collection[str]) -> tuple[list[Path], list[Path], Counter[str]]:
    """(all files that are not hidden, those of them that are data, the others by kind)."""
    found: list[Path] = []
    links = 0
    for top, folders, names in os.walk(root, onerror=_unreadable):
        folders[:] = [name for name in folders if not name.startswith(".")]
        links += sum(os.path.islink(os.path.join(top, name)) for name in folders)  # which os.walk does not follow
        found += [Path(top) / name for name in names if not name.startswith(".")]
    relative = {file.relative_to(root): file for file in found}
    refuse_splits(root, relative.keys())
    own = [each for each in relative if format_of(each) in suffixes and not is_beside(each, relative.keys())]
    files = [relative[each] for each in without_archives(own)]
    data = set(files)
    left_out = Counter(kind_of(own) for own, file in relative.items() if file not in data)
    return found, files, left_out + Counter({"links to folders": links})


def without_archives(files: Sequence[AnyPath]) -> Sequence[AnyPath]:
    """The data of a folder: tars where there is nothing else, as in a folder of WebDataset shards; else what is beside
    them, since they are pictures then, or a copy.
    """
    return [each for each in files if format_of(each) != ".tar"] or files


def _unreadable(error: OSError) -> None:
    raise SamplewiseError(
        str(error.filename), expected="a folder that can be read", got=error.strerror or str(error),
        remedy="Check its permissions.",
    ) from None  # fmt: skip


def _by_glob(path: Path, suffixes: Collection[str]) -> tuple[Found, Counter[str]]:
    """As the shell's: hidden names are matched by patterns that begin with a dot alone; ** follows no links."""
    wild = next(i for i, part in enumerate(path.parts) if glob.has_magic(part))
    root, parts = Path(*path.parts[:wild]), list(path.parts[wild:])
    parts += ["*"] if parts[-1] == "**" else []
    pattern = "/".join(part if part == "**" else part.replace("**", "*") for part in parts)
    dotted = any(part.startswith(".") for part in parts)
    found = sorted({each for each in _matches(root, pattern) if not each.is_dir()})
    files = [each for each in found if dotted or not _hidden(each.relative_to(root))]
    if not files:
        raise SamplewiseError(
            str(path), expected="a glob that matches files", got="no match",
            remedy="Check the glob: ** matches folders of any depth, and hidden files are not matched.",
        )  # fmt: skip
    data = [each for each in files if not is_beside(each.relative_to(root), files)]
    left_out = Counter(kind_of(each) for each in set(files) - set(data))
    if not data:
        raise SamplewiseError(str(path), expected="data files", got=in_words(left_out), remedy=what_to_do(files))
    return _named(data, root, suffixes), left_out


def _matches(root: Path, pattern: str) -> Iterator[Path]:
    try:
        yield from root.glob(pattern)
    except (OSError, ValueError) as error:  # a part that is neither a pattern nor a name
        raise SamplewiseError(
            f"{root}/{pattern}", expected="a valid glob", got=str(error), remedy="Correct the glob."
        ) from None


def _hidden(file: PurePath) -> bool:
    return any(part.startswith(".") for part in file.parts)


def _named(files: list[Path], root: Path, suffixes: Collection[str]) -> Found:
    _refuse_pointers(files, root)
    named = sorted((readable(file.relative_to(root)), file) for file in set(files))
    return [(source, _usable(file, suffixes)) for source, file in named]


def readable(file: PurePath) -> str:
    """A relative path as text; bytes of it that are no UTF-8 are written as \\xe9, since no table could hold them."""
    return os.fsencode(file.as_posix()).decode("utf-8", "backslashreplace")


def _usable(file: Path, suffixes: Collection[str]) -> Path | Problem:
    if format_of(file) not in suffixes:
        return unknown_suffix(file, suffixes)
    kind = _what_it_is(file)
    if kind is None:
        return file
    remedy = 'Take it away, or leave it out and count it with on_error="skip".'
    return Problem("no regular file", "a regular file", kind, remedy)


def _what_it_is(file: Path) -> str | None:
    """The kind of a file in words; None for a regular file, and for a broken link, which fails when it is read."""
    try:
        mode = file.stat().st_mode
    except OSError:
        return None
    return None if stat.S_ISREG(mode) else _KINDS.get(stat.S_IFMT(mode), "a special file")


def _refuse_pointers(files: list[Path], root: Path) -> None:
    pointers = [file for file in files if _is_pointer(file)]
    if pointers:
        first = readable(min(pointers).relative_to(root))
        found = lfs_pointer(f"Git LFS pointers in {len(pointers):,} of {len(files):,} files, such as {first}")
        raise SamplewiseError(str(root), expected="files with their content", got=found.got, remedy=found.remedy)


def _is_pointer(file: Path) -> bool:
    try:
        found = file.stat()
        if not stat.S_ISREG(found.st_mode) or found.st_size not in POINTER:
            return False
        with file.open("rb") as own:
            return is_lfs_pointer(own.read(64))
    except OSError:
        return False


def unknown_suffix(file: PurePath, suffixes: Collection[str]) -> Problem:
    """The problem of a file that was named but is of an unknown kind."""
    remedy = f'Name such files only, for example with **/*{next(iter(suffixes))}, or pass on_error="skip".'
    if kind_of(file) == "archives":
        remedy = "Unpack it, and give the folder of what was in it."
    return Problem("unknown suffix", f"one of {known(suffixes)}", f"suffix {file.suffix!r}", remedy)

"""Where records come from: the files of a path, folder or glob in a fixed order, or the rows of a `datasets` name."""

from __future__ import annotations

import glob
import os
import re
from collections.abc import Collection, Iterator
from pathlib import Path, PurePath
from typing import Any

from samplewise.core.errors import SamplewiseError
from samplewise.data.formats import COMPRESSED, FORMATS, Problem, Record, format_of, missing_extra


def known(suffixes: Collection[str]) -> str:
    """File formats in words."""
    return f"{', '.join(suffixes)}, each but .parquet also with {' or '.join(COMPRESSED)}"


def is_local(path: str | Path) -> bool:
    """Whether a path means files here; a name such as "org/name" that exists nowhere here means the hub.

    >>> is_local("allenai/c4"), is_local("no/such/folder/a.txt"), is_local("*.txt")
    (False, True, True)
    """
    text = str(path)
    hub = re.fullmatch(r"\w[\w.-]*(/\w[\w.-]*)?", text) and format_of(Path(text)) is None
    return isinstance(path, Path) or os.path.exists(text) or not hub


def find_files(
    path: str | Path, suffixes: Collection[str] = tuple(FORMATS)
) -> tuple[list[tuple[str, Path | Problem]], int]:
    """((source, file) sorted by source, number of files ignored): source is the path relative to the data root.

    suffixes: of `FORMATS`, those that are looked for. In a folder, files of other suffixes are ignored, and so is what
    is hidden; a file that is named, by itself or by a glob, must be of a known one.
    """
    path = Path(path).expanduser()
    if path.is_dir():
        found = [Path(top) / name for top, _, names in os.walk(path) for name in names]
        found = [f for f in found if not any(part.startswith(".") for part in f.relative_to(path).parts)]
        files = [f for f in found if format_of(f) in suffixes]
        if not files:
            got = f"{len(found)} files of other kinds" if found else "none"
            raise SamplewiseError(
                str(path),
                expected=f"a folder with files of text ({known(suffixes)})",
                got=got,
                remedy="Check the path.",
            )
        return _named(files, path, suffixes), len(found) - len(files)
    if path.is_file():
        return _named([path], path.parent, suffixes), 0
    if not glob.has_magic(str(path)):
        raise SamplewiseError(
            str(path), expected="a file, a folder, a glob or a datasets name", got="nothing of that name",
            remedy="Check the path; relative paths start at the current folder.",
        )  # fmt: skip
    files = [Path(name) for name in glob.glob(str(path), recursive=True) if os.path.isfile(name)]
    if not files:
        raise SamplewiseError(
            str(path), expected="a glob that matches files", got="no match",
            remedy="Check it; ** matches folders of any depth, and hidden files are not matched.",
        )  # fmt: skip
    wild = next(i for i, part in enumerate(path.parts) if glob.has_magic(part))
    return _named(files, Path(*path.parts[:wild]), suffixes), 0


def load_rows(name: str, config: str | None, split: str, streaming: bool) -> Iterator[tuple[str, int, None, Record]]:
    """The rows of a `datasets` name as (source, row, None, record); source is name/config/split."""
    try:
        import datasets
    except ImportError:
        raise missing_extra("datasets", "hf", name) from None
    try:
        rows = datasets.load_dataset(name, config, split=split, streaming=streaming)
    except Exception as error:  # the hub's client raises errors of many libraries
        raise _unreachable(name, error) from error
    return _rows(rows, name, "/".join(part for part in (name, config, split) if part))


def _rows(rows: Any, name: str, source: str) -> Iterator[tuple[str, int, None, Record]]:
    try:
        for row, record in enumerate(rows):
            yield source, row, None, record
    except Exception as error:  # a stream meets the network here
        raise _unreachable(name, error) from error


def _unreachable(name: str, error: Exception) -> SamplewiseError:
    got = f"{type(error).__name__}: {(str(error).strip().splitlines() or [''])[0]}"
    remedy = "Check the name, config and split and the network, or download the files and give their path."
    return SamplewiseError(name, expected="a file or folder here, or a dataset on the hub", got=got, remedy=remedy)


def _named(files: list[Path], root: Path, suffixes: Collection[str]) -> list[tuple[str, Path | Problem]]:
    named = sorted((file.relative_to(root).as_posix(), file) for file in set(files))
    return [(source, file if format_of(file) in suffixes else unknown_suffix(file, suffixes)) for source, file in named]


def unknown_suffix(file: PurePath, suffixes: Collection[str]) -> Problem:
    """A file that was named but cannot be read."""
    remedy = f'Name such files only, for example with **/*{next(iter(suffixes))}, or pass on_error="skip".'
    return Problem("unknown suffix", f"one of {known(suffixes)}", f"suffix {file.suffix!r}", remedy)

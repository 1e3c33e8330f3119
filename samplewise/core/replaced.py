"""Files and folders that are whole or not there: written beside their place under a temporary name, lost at the end."""

from __future__ import annotations

import hashlib
import os
import re
import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from tempfile import TemporaryDirectory

from samplewise.core.errors import SamplewiseError
from samplewise.core.file_lock import lock, locked_file

LONGEST = 255 - len(".0123456789")
"""Bytes of a name, on most disks, that leave room for what makes it a temporary one."""


@contextmanager
def replaced(path: Path) -> Iterator[Path]:
    """A temporary file beside `path`, to be written, that takes its name at the end; gone if the block fails.

    Where `path` is a link, the link stays, and the file that it leads to is replaced. What a killed process left here
    under such a name is taken away. The file is locked by the operating system, so that no process that still writes
    loses its own. Errors: SamplewiseError for a device, a pipe or a folder.
    """
    path = _target(path)
    if path.exists() and not path.is_file():
        raise SamplewiseError(
            str(path), expected="the name of a file", got="a folder" if path.is_dir() else "a device or a pipe",
            remedy="Name a file.",
        )  # fmt: skip
    _sweep(path)
    temporary = path.with_name(f"{_stem(path)}{os.getpid()}")
    try:
        handle = locked_file(temporary, wait=True)
    except OSError as error:
        error.filename = str(path)  # the name that people know
        raise
    assert handle is not None
    try:
        yield temporary
        with temporary.open("rb") as file:
            os.fsync(file.fileno())
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)
        os.close(handle)


@contextmanager
def replaced_folder(path: Path) -> Iterator[Path]:
    """A temporary folder beside `path`, to be filled, that takes its name at the end; as `replaced`.

    `path` may be an empty folder: one with files in it is not replaced.
    """
    path = _target(path)
    _sweep(path)
    temporary = path.with_name(f"{_stem(path)}{os.getpid()}")
    temporary.mkdir()
    handle = os.open(temporary, os.O_RDONLY)
    try:
        lock(handle)
        yield temporary
        for file in [each for each in temporary.rglob("*") if each.is_file()]:
            with file.open("rb") as own:
                os.fsync(own.fileno())
        temporary.replace(path)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
        os.close(handle)


@contextmanager
def temporary_folder() -> Iterator[str]:
    """A folder for temporary files, gone at the end. Errors: SamplewiseError where none can be made anywhere."""
    try:
        folder = TemporaryDirectory(prefix="samplewise-")
    except OSError as error:
        raise SamplewiseError(
            "TMPDIR", expected="a folder for temporary files that can be written", got=error.strerror,
            remedy="Make room in one, or set TMPDIR to another.",
        ) from error  # fmt: skip
    with folder as name:
        yield name


def write_whole(path: Path, data: bytes) -> None:
    """All of a file or nothing of it; what a device or a pipe such as /dev/stdout is given, it gets."""
    if path.exists() and not path.is_file() and not path.is_dir():
        path.write_bytes(data)
        return
    with replaced(path) as temporary:
        temporary.write_bytes(data)


def _target(path: Path) -> Path:
    """What a link leads to, which need not be there."""
    return Path(os.path.realpath(path)) if path.is_symlink() else path


def _stem(path: Path) -> str:
    """How temporary names begin; a long name stands there by its hash, since they must be names too."""
    name = path.name
    if len(os.fsencode(name)) > LONGEST:
        name = hashlib.sha256(os.fsencode(name)).hexdigest()[:32]
    return f".{name}."


def _sweep(path: Path) -> None:
    left = re.compile(rf"{re.escape(_stem(path))}\d+")
    for each in path.parent.iterdir():
        if left.fullmatch(each.name) and not each.is_symlink():
            with suppress(OSError):
                _take_away(each)


def _take_away(path: Path) -> None:
    handle = os.open(path, os.O_RDONLY)
    try:
        lock(handle, wait=False)  # refused where another process writes it now
        if path.is_dir():
            shutil.rmtree(path)
        else:
            path.unlink()
    finally:
        os.close(handle)

"""Files and folders that are whole or not there: written beside their place under a temporary name, lost at the end."""

from __future__ import annotations

import os
import re
import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from samplewise.core.file_lock import lock


@contextmanager
def replaced(path: Path) -> Iterator[Path]:
    """A temporary file beside `path`, to be written, that takes its name at the end; gone if the block fails.

    What a killed process left here under such a name is taken away. The file is locked by the operating system, so
    that no process that still writes loses its own.
    """
    _sweep(path)
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    handle = os.open(temporary, os.O_RDWR | os.O_CREAT, 0o644)
    try:
        lock(handle)
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
    _sweep(path)
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
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


def write_whole(path: Path, data: bytes) -> None:
    """All of a file or nothing of it."""
    with replaced(path) as temporary:
        temporary.write_bytes(data)


def _sweep(path: Path) -> None:
    left = re.compile(rf"\.{re.escape(path.name)}\.\d+")
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

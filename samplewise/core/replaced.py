"""Files that are whole or not there: written beside their place under a temporary name, which they lose at the end."""

from __future__ import annotations

import os
import re
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


def write_whole(path: Path, data: bytes) -> None:
    """All of a file or nothing of it."""
    with replaced(path) as temporary:
        temporary.write_bytes(data)


def _sweep(path: Path) -> None:
    left = re.compile(rf"\.{re.escape(path.name)}\.\d+")
    for each in path.parent.iterdir():
        if left.fullmatch(each.name) and each.is_file():
            with suppress(OSError), each.open("rb") as file:  # refused where another process writes it now
                lock(file.fileno(), wait=False)
                each.unlink()

"""Who works on what: locks of the operating system, which no crash leaves behind. On a shared disk, across machines."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from samplewise.core.errors import SamplewiseError
from samplewise.core.file_lock import lock


@contextmanager
def folder_claimed(folder: Path, rank: int, ranks: int) -> Iterator[None]:
    """The folder is this run's inside. Ranks of one run share it; another run, of one process or many, is refused."""
    folder.mkdir(parents=True, exist_ok=True)
    run = _lock(folder / "run.lock", shared=ranks > 1)
    own = _lock(folder / f"rank-{rank}.lock") if run is not None else None
    try:
        if run is None or own is None:
            raise SamplewiseError(
                "--out", expected="a folder that no other run uses now", got=f"{folder.parent}, which is in use",
                remedy="Wait for that run, or name another folder.",
            )  # fmt: skip
        yield
    finally:
        for handle in (own, run):
            if handle is not None:
                os.close(handle)


@contextmanager
def alone_in(folder: Path) -> Iterator[bool]:
    """Whether no process has the folder claimed, and none can until the block ends; False without such a folder."""
    handle = _lock(folder / "run.lock") if folder.is_dir() else None
    try:
        yield handle is not None
    finally:
        if handle is not None:
            os.close(handle)


@contextmanager
def claimed(path: Path, *, wait: bool = False) -> Iterator[bool]:
    """Whether a piece of work is this process's; it is until the block ends, or the process does."""
    handle = _lock(path, wait=wait)
    try:
        yield handle is not None
    finally:
        if handle is not None:
            os.close(handle)


def _lock(path: Path, *, shared: bool = False, wait: bool = False) -> int | None:
    handle = os.open(path, os.O_RDWR | os.O_CREAT, 0o644)
    try:
        lock(handle, shared=shared, wait=wait)
    except OSError:
        os.close(handle)
        return None
    return handle

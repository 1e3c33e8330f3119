"""Who works on what: locks of the operating system, which no crash leaves behind. On a shared disk, across machines."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from samplewise.core.errors import SamplewiseError
from samplewise.core.file_lock import TRIES, locked_file

RUN = "run.lock"


@contextmanager
def folder_claimed(folder: Path, rank: int, ranks: int) -> Iterator[None]:
    """The folder is this run's inside. Ranks of one run share it; another run, of one process or many, is refused."""
    run = _claimed_run(folder, shared=ranks > 1)
    own = locked_file(folder / f"rank-{rank}.lock") if run is not None else None
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


def _claimed_run(folder: Path, *, shared: bool) -> int | None:
    for _ in range(TRIES):
        folder.mkdir(parents=True, exist_ok=True)
        with suppress(FileNotFoundError):  # a run that ended has just taken the folder away
            return locked_file(folder / RUN, shared=shared)
    return None


@contextmanager
def alone_in(folder: Path) -> Iterator[bool]:
    """Whether no process has the folder claimed, and none can until the block ends; False without such a folder."""
    handle = None
    if folder.is_dir():
        with suppress(FileNotFoundError):
            handle = locked_file(folder / RUN)
    try:
        yield handle is not None
    finally:
        if handle is not None:
            os.close(handle)


def take_away(folder: Path) -> None:
    """Remove a folder that `alone_in` holds. It loses its name at once: a run that begins meanwhile makes its own."""
    gone = folder.with_name(f"{folder.name}.{os.getpid()}")
    folder.rename(gone)
    shutil.rmtree(gone, ignore_errors=True)  # what stays is taken away when the next run ends


@contextmanager
def claimed(path: Path, *, wait: bool = False) -> Iterator[bool]:
    """Whether a piece of work is this process's; it is until the block ends, or the process does."""
    handle = locked_file(path, wait=wait)
    try:
        yield handle is not None
    finally:
        if handle is not None:
            os.close(handle)

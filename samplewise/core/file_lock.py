"""Locks of the operating system on open files: a crash leaves none behind. Windows has none of this kind."""

from __future__ import annotations

import importlib.util
import os
from contextlib import suppress
from pathlib import Path

from samplewise.core.errors import SamplewiseError

AVAILABLE = importlib.util.find_spec("fcntl") is not None
TRIES = 20
"""How often a folder is made again that another run takes away at the same time."""


def lock(handle: int, *, shared: bool = False, wait: bool = True) -> None:
    """Lock an open file until it is closed.

    handle: its number. shared: beside others that share it. wait: until it is free.
    Errors: BlockingIOError where it is taken and `wait` is False; SamplewiseError on Windows, and on a file system that
    has no locks.
    """
    if not AVAILABLE:
        raise SamplewiseError(
            "platform", expected="Linux or macOS, whose file locks keep two runs out of one folder", got="Windows",
            remedy="Run it in WSL 2. Rules and weights work on Windows too.",
        )  # fmt: skip
    import fcntl

    kind = fcntl.LOCK_SH if shared else fcntl.LOCK_EX
    try:
        fcntl.flock(handle, kind if wait else kind | fcntl.LOCK_NB)
    except BlockingIOError:
        raise
    except OSError as error:
        raise SamplewiseError(
            "output", expected="a file system with locks (flock), which keep two runs out of one folder",
            got=error.strerror, remedy="Name a folder on another disk, or mount this one with locks.",
        ) from error  # fmt: skip


def locked_file(path: Path, *, shared: bool = False, wait: bool = False) -> int | None:
    """The number of an open file of that name, locked until it is closed; None where another process has it.

    It is made if it is not there. Whoever held it may have removed it between its opening and its locking: a lock on a
    file without a name keeps nobody out, so that it is opened anew. Errors: OSError where it cannot be opened.
    """
    while True:
        handle = os.open(path, os.O_RDWR | os.O_CREAT, 0o666)
        try:
            lock(handle, shared=shared, wait=wait)
            if _is_named(handle, path):
                return handle
        except BlockingIOError:
            os.close(handle)
            return None
        except BaseException:
            os.close(handle)
            raise
        os.close(handle)


def _is_named(handle: int, path: Path) -> bool:
    with suppress(FileNotFoundError):
        return os.path.samestat(os.fstat(handle), os.stat(path))
    return False

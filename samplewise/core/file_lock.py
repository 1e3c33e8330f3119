"""Locks of the operating system on open files: a crash leaves none behind. Windows has none of this kind."""

from __future__ import annotations

import importlib.util

from samplewise.core.errors import SamplewiseError

AVAILABLE = importlib.util.find_spec("fcntl") is not None


def lock(handle: int, *, shared: bool = False, wait: bool = True) -> None:
    """Lock an open file until it is closed.

    handle: its number. shared: beside others that share it. wait: until it is free.
    Errors: BlockingIOError where it is taken and `wait` is False; SamplewiseError on Windows.
    """
    if not AVAILABLE:
        raise SamplewiseError(
            "platform", expected="Linux or macOS, whose file locks keep two runs out of one folder", got="Windows",
            remedy="Run it in WSL 2. Rules and weights work on Windows too.",
        )  # fmt: skip
    import fcntl

    kind = fcntl.LOCK_SH if shared else fcntl.LOCK_EX
    fcntl.flock(handle, kind if wait else kind | fcntl.LOCK_NB)

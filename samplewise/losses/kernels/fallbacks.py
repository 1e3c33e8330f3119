"""Kernels that cannot be used here, and for which others step in: said once for each reason, counted every time."""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Generator
from contextlib import contextmanager
from contextvars import ContextVar
from functools import cache

logger = logging.getLogger("samplewise")
_counts: ContextVar[Counter[str] | None] = ContextVar("fallbacks", default=None)


@contextmanager
def counted(counts: Counter[str]) -> Generator[None]:
    """Within it, every call of the kernels that falls back adds 1 to the count of its reason."""
    token = _counts.set(counts)
    try:
        yield
    finally:
        _counts.reset(token)


def fall_back(why: str) -> None:
    """Say why the Triton kernels are not used, the first time in a process, and count it."""
    counts = _counts.get()
    if counts is not None:
        counts[why] += 1
    _say(why)


@cache
def _say(why: str) -> None:
    logger.warning("the Triton kernels are not used, the chunked ones are, which are as exact: %s", why)

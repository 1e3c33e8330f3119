"""Seconds by phase. Wall time: on a GPU, queued work falls to the phase that waits for it."""

from __future__ import annotations

import time
from collections import defaultdict
from collections.abc import Iterator
from contextlib import contextmanager


class Clock(defaultdict[str, float]):
    """Adds up what is timed; a phase inside another counts for itself only.

    >>> clock = Clock()
    >>> with clock.timed("outer"):
    ...     with clock.timed("inner"):
    ...         pass
    >>> sorted(clock)
    ['inner', 'outer']
    """

    def __init__(self) -> None:
        super().__init__(float)
        self._inside = [0.0]  # seconds already counted, by depth

    @contextmanager
    def timed(self, phase: str) -> Iterator[None]:
        """Add the seconds spent inside, less those of phases within, to `phase`."""
        start = time.perf_counter()
        self._inside.append(0.0)
        try:
            yield
        finally:
            spent = time.perf_counter() - start
            self[phase] += spent - self._inside.pop()
            self._inside[-1] += spent

"""What a device was given is waited for when it has the next already."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import TypeVar

T = TypeVar("T")


def one_behind(items: Iterable[T]) -> Iterator[T]:
    """The items, each when the next one is there already.

    >>> log = []
    >>> for item in one_behind(log.append(i) or i for i in range(3)):
    ...     log.append(f"used {item}")
    >>> log
    [0, 1, 'used 0', 2, 'used 1', 'used 2']
    """
    before: list[T] = []
    for item in items:
        before.append(item)
        if len(before) > 1:
            yield before.pop(0)
    yield from before

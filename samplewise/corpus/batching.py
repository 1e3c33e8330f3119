"""Which pieces the model is given at once: of like length, under a budget of ids that shrinks when memory runs out.

The budget is given, or on an accelerator measured once a process: from what two batches take and what is free.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from samplewise.core.errors import SamplewiseError
from samplewise.core.exhausted import lacks_memory

logger = logging.getLogger("samplewise")

MIN_TOKENS, MAX_TOKENS = 2**11, 2**17
"""Between them a measured budget lies. No accelerator was there to find out from where on more brings nothing."""
FREE_SHARE = 0.8
"""Of the free memory; the rest is for what the allocator cannot join."""
TRIAL_TOKENS = 2**13
"""Ids of the smaller trial: its logits are more than a chunk holds, so that the second differs by its rows alone."""


@dataclass
class Budget:
    """tokens: ids of a batch, rows × longest; None: not measured yet. halved: how often memory ran out."""

    tokens: int | None
    halved: int = 0

    def halve(self, rows: int, longest: int, error: BaseException) -> None:
        """After a batch found no memory: later ones have at most half of its ids. SamplewiseError if it was one row."""
        if rows == 1:
            raise SamplewiseError(
                "--max-length", expected="windows that fit into memory one by one",
                got=f"out of memory in one of {longest:,} tokens",
                remedy="Free memory on the device, or score into another folder with a smaller --max-length.",
            ) from error  # fmt: skip
        self.tokens, self.halved = rows * longest // 2, self.halved + 1
        logger.warning(
            "out of memory in a batch of %d × %d tokens: it is scored in halves, and later batches have at most %d",
            rows, longest, self.tokens,
        )  # fmt: skip


def batches(lengths: Sequence[int], budget: int | Budget) -> Iterator[np.ndarray]:
    """Positions of pieces batch by batch, the longest first; rows × longest within the budget, or one row.

    A batch of an eighth of the budget ends where pieces become shorter than 0.9 of its longest: padding costs more
    than another call. A `Budget` is looked at before each batch.

    >>> [each.tolist() for each in batches([3, 9, 2, 3], budget=9)]
    [[1], [0, 3], [2]]
    """
    order = np.argsort(-np.asarray(lengths), kind="stable")
    at = 0
    while at < len(order):
        tokens = budget if isinstance(budget, int) else budget.tokens
        assert tokens is not None, "measured before"
        longest = lengths[order[at]]
        most = at + max(1, tokens // longest)
        end = at + 1
        while end < min(most, len(order)):
            if lengths[order[end]] < 0.9 * longest and (end - at) * longest >= tokens // 8:
                break
            end += 1
        yield order[at:end]
        at = end


class Measured(NamedTuple):
    """tokens: of a batch. each: bytes a token takes. fixed: those of any batch. free: those there are."""

    tokens: int
    each: float
    fixed: float
    free: int


def measured_tokens(peak: Callable[[int], int], free: int, longest: int) -> Measured:
    """How many ids a batch may have, from the bytes that two batches take.

    peak: (rows) -> the most bytes that a batch of so many rows of `longest` ids takes. free: bytes.
    Where not even the trials fit, the smallest budget: it is halved where it is too much.

    >>> measured_tokens(lambda rows: 10**9 + rows * 512 * 10**6, free=10**11, longest=512)
    Measured(tokens=79000, each=1000000.0, fixed=1000000000.0, free=100000000000)
    """
    rows = max(1, TRIAL_TOKENS // longest)
    try:
        small, large = peak(rows), peak(2 * rows)
    except Exception as error:
        if not lacks_memory(error):
            raise
        return Measured(MIN_TOKENS, np.nan, np.nan, free)
    each = max(large - small, 1) / (rows * longest)
    fixed = max(small - each * rows * longest, 0.0)
    tokens = (FREE_SHARE * free - fixed) / each
    return Measured(int(min(max(tokens, MIN_TOKENS), MAX_TOKENS)), each, fixed, free)

"""Kept rows dealt into as few full micro-batches as possible. Rows of like length go together, which saves padding."""

from __future__ import annotations

import heapq
import math
from collections.abc import Sequence
from itertools import pairwise

from samplewise.core.host import host
from samplewise.core.micro_batch import MicroBatch
from samplewise.engine.rows import Row, blank, collate, rows_of
from samplewise.losses.token_losses import IGNORED, token_counts


def micro_batches_needed(sizes: Sequence[int], capacity: int) -> int:
    """How few micro-batches hold rows of these sizes, at least one; `spread` then stays within the capacity.

    >>> micro_batches_needed([1, 1, 1], 2), micro_batches_needed([5, 4, 4, 3], 8)
    (2, 2)
    """
    count = max(1, math.ceil(sum(sizes) / capacity))
    if max(sizes, default=1) == 1:  # rows of a padded micro-batch
        return count
    while count < len(sizes) and max(_loads(sizes, count)) > capacity:
        count += 1
    return count


def _loads(sizes: Sequence[int], count: int) -> list[int]:
    return [sum(sizes[i] for i in part) for part in spread(sizes, count)]


def spread(sizes: Sequence[int], count: int) -> list[list[int]]:
    """The rows' numbers in `count` parts: the largest first, each to the part that is emptiest so far.

    >>> spread([5, 4, 4, 3], 2)
    [[0, 3], [1, 2]]
    """
    parts: list[list[int]] = [[] for _ in range(count)]
    loads = [(0, part) for part in range(count)]  # a heap: 65,536 rows are dealt in every step of a large run
    for i in sorted(range(len(sizes)), key=lambda i: -sizes[i]):
        load, emptiest = loads[0]
        parts[emptiest].append(i)
        heapq.heapreplace(loads, (load + sizes[i], emptiest))
    return parts


def deal(kept: Sequence[Row], template: Row, size: int, count: int) -> list[MicroBatch]:
    """The rows in `count` micro-batches of like sizes: of rows as near in number as can be, or of tokens.

    template: any row of the step, which says what a blank one looks like. size: what fits into a micro-batch.
    count: how many micro-batches the rank with the most rows needs; every rank must make as many calls, so one short
    of rows runs blank ones.
    """
    if template.packed is not None:
        parts = spread([row.length for row in kept], max(count, 1))
        return [collate([kept[i] for i in sorted(part)] or [blank(template)]) for part in parts]
    count = max(count, math.ceil(len(kept) / size), 1)
    kept = sorted(kept, key=lambda row: row.length) + [blank(template)] * (count - len(kept))
    bounds = [round(k * len(kept) / count) for k in range(count + 1)]
    return [collate(kept[a:b]) for a, b in pairwise(bounds)]


def without_empty_rows(batches: Sequence[MicroBatch]) -> list[MicroBatch]:
    """The micro-batches without rows that predict nothing; each of blank rows if none does."""
    labelled = [micro for micro in batches if micro.labels is not None]
    if all((host(token_counts(micro.targets, segments=micro.segments)) > 0).all() for micro in labelled):
        return list(batches)
    return [micro if micro.labels is None else _without_empty_rows(micro) for micro in batches]


def _without_empty_rows(micro: MicroBatch) -> MicroBatch:
    given = rows_of(micro)
    kept = [row for row in given if _predicts(row)]
    return micro if len(kept) == len(given) else collate(kept or [blank(given[0])])


def _predicts(row: Row) -> bool:
    return bool((host(row.targets["labels"])[1:] != IGNORED).any())

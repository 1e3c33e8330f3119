"""Which positions go through the head together."""

from __future__ import annotations

from dataclasses import dataclass

import torch

from samplewise.types import SamplewiseError

# Measured on 2 cores at V 49,152, D 576, 1,016 positions (see bench/kernel.py): 256 fp32 rows or 512 bf16 rows are as fast
# as one chunk; a quarter of that costs 25% in fp32 and 60% in bf16, since the head's gradient is then read and written four times as often.
CPU_BYTES = 48 * 2**20
# On accelerators not measured: large enough that launches do not count, small beside the logits of any training batch.
ACCELERATOR_BYTES = 256 * 2**20
# With a vocabulary of 262,144 the budget is 48 fp32 rows, too flat for a matrix product: below 128 rows it stops shrinking.
LEAST_ROWS = 128


@dataclass(frozen=True)
class Group:
    """Samples first..stop-1, whose factors are asked for together, and the spans [start, end) of their positions.

    More than one span only where a single sample is longer than the budget.
    """

    first: int
    stop: int
    spans: list[tuple[int, int]]


def rows_per_chunk(chunk_bytes: int | None, vocabulary: int, dtype: torch.dtype, device: torch.device) -> int:
    """How many rows of logits fit `chunk_bytes`; None is this device's default, but at least 128 rows."""
    size = vocabulary * dtype.itemsize
    if chunk_bytes is None:
        return max(LEAST_ROWS, (CPU_BYTES if device.type == "cpu" else ACCELERATOR_BYTES) // size)
    if chunk_bytes < size:
        raise SamplewiseError(
            "chunk_bytes", expected=f"at least {size}, one row of {vocabulary} logits in {dtype}", got=chunk_bytes,
            remedy="Raise the budget, or leave it out.",
        )  # fmt: skip
    return chunk_bytes // size


def cut(start: int, end: int, rows: int) -> list[tuple[int, int]]:
    """Near-equal spans of at most `rows`: a short last chunk costs nearly as much as a full one.

    >>> cut(0, 10, 4)
    [(0, 4), (4, 7), (7, 10)]
    """
    parts = -(-(end - start) // rows)
    size, extra = divmod(end - start, max(parts, 1))
    edges = [start + i * size + min(i, extra) for i in range(parts + 1)]
    return list(zip(edges[:-1], edges[1:], strict=True))


def group_samples(tokens: list[int], rows: int) -> list[Group]:
    """Whole samples, as many as fit `rows` positions; a sample longer than that is a group of its own, in spans.

    >>> [(g.first, g.stop, g.spans) for g in group_samples([2, 1, 5, 0, 2], 4)]
    [(0, 2, [(0, 3)]), (2, 3, [(3, 6), (6, 8)]), (3, 5, [(8, 10)])]
    """
    groups: list[Group] = []
    first = start = end = 0
    for i, count in enumerate(tokens):
        if end > start and end + count - start > rows:
            groups.append(Group(first, i, [(start, end)]))
            first, start = i, end
        end += count
        if end - start > rows:
            groups.append(Group(first, i + 1, cut(start, end, rows)))
            first, start = i + 1, end
    if end > start:
        groups.append(Group(first, len(tokens), [(start, end)]))
    return groups

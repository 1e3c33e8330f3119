"""Which positions go through the head together."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

import torch

from samplewise.core.errors import SamplewiseError

# On 2 cores, V 49,152, D 576, CPU time of whole steps of a 6-layer model to plain (body, head and loss), rows a chunk:
#            128   256   512   1,024          The smaller the chunk, the more often the head is read and its gradient
# 8x128 fp32       .897  .863                 rewritten; the larger, the more memory: 512 rows in fp32 are 96 MiB. The
# 8x128 bf16       .894  .868  .881           three products alone, bf16, ms: 679, 525, 479, 457.
# 1x4096 fp32     1.010  .921
# 1x4096 bf16            .838  .880
CPU_ROWS, CPU_BYTES = 512, 96 * 2**20
# On accelerators not measured. 4,096 rows fill one and read the head seldom; 1 GiB holds as many of a vocabulary of
# 131,072 in 16 bits, half of them of 262,144: a quarter of the logits of 16,384 tokens, which plain training holds.
ACCELERATOR_ROWS, ACCELERATOR_BYTES = 4096, 2**30
# With a vocabulary of 262,144 the budget of a CPU holds 96 fp32 rows; below this a product is too flat to be fast.
MIN_ROWS = 128


@dataclass(frozen=True)
class Group:
    """Samples first..stop-1, whose factors are asked for together, and the spans [start, end) of their positions.

    More than one span only where a single sample is longer than the budget.
    """

    first: int
    stop: int
    spans: list[tuple[int, int]]


def rows_per_chunk(chunk_bytes: int | None, vocabulary: int, dtype: torch.dtype, device: torch.device) -> int:
    """How many rows of logits fit `chunk_bytes`; None is this device's default."""
    size = vocabulary * dtype.itemsize
    if chunk_bytes is None:
        rows, budget = (CPU_ROWS, CPU_BYTES) if device.type == "cpu" else (ACCELERATOR_ROWS, ACCELERATOR_BYTES)
        return max(MIN_ROWS, min(rows, budget // size))
    if chunk_bytes < size:
        raise SamplewiseError(
            "chunk_bytes", expected=f"at least {size}, one row of {vocabulary} logits in {dtype}", got=chunk_bytes,
            remedy="Raise it, or leave it out for the default.",
        )  # fmt: skip
    return chunk_bytes // size


def widen(rows: int, counts: Sequence[int], row_bytes: int, buffer_bytes: int) -> int:
    """Enough rows for the longest of several samples, where that takes less memory than a second head gradient.

    >>> widen(128, [255, 255], row_bytes=2**20, buffer_bytes=640 * 2**20)
    255
    """
    longest, several = max(counts), sum(count > 0 for count in counts) > 1
    return longest if several and 0 < (longest - rows) * row_bytes <= buffer_bytes else rows


def cut(start: int, end: int, rows: int) -> list[tuple[int, int]]:
    """Near-equal spans of at most `rows`: a short last chunk costs nearly as much as a full one.

    >>> cut(0, 10, 4)
    [(0, 4), (4, 7), (7, 10)]
    """
    parts = -(-(end - start) // rows)
    size, extra = divmod(end - start, max(parts, 1))
    edges = [start + i * size + min(i, extra) for i in range(parts + 1)]
    return list(pairwise(edges))


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

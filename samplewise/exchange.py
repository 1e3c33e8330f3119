"""Kept rows from ranks that have too many to ranks that have too few, as flat tensors with lengths."""

from __future__ import annotations

import math
from dataclasses import replace

import torch
from torch import Tensor

from samplewise.distributed import gather_fields, rank
from samplewise.microbatch import Row


def fair_shares(kept: list[int]) -> list[int]:
    """How many rows each rank should have, differing by one at most, the sum being the same.

    >>> fair_shares([5, 0, 2])
    [3, 2, 2]
    """
    total, ranks = sum(kept), len(kept)
    return [total // ranks + (number < total % ranks) for number in range(ranks)]


def worth_moving(kept: list[int], size: int) -> bool:
    """Whether fewer micro-batches of `size` rows would be needed if every rank had its fair share.

    >>> worth_moving([8, 0], 4), worth_moving([5, 3], 8)
    (True, False)
    """
    return math.ceil(max(kept) / size) > math.ceil(max(fair_shares(kept)) / size)


def move_rows(mine: list[Row], kept: list[int], template: Row, device: torch.device) -> list[Row]:
    """This rank's fair share of all kept rows: what it keeps of its own, and what it is given.

    mine: the kept rows of this rank; kept: how many each rank has; template: any row, for the keys and dtypes of those
    that come. Cost: four collectives, for the lengths and for the bytes of the rows that move; nothing is cast.
    """
    shares = fair_shares(kept)
    surplus = mine[shares[rank()] :]
    lengths, _ = gather_fields({"length": _lengths(surplus), "left": _sides(surplus)}, device)
    packed = torch.cat([_bytes(row) for row in surplus]) if surplus else torch.empty(0, dtype=torch.uint8)
    words, spans = gather_fields({"words": _words(packed)}, device)
    given: list[Row] = []
    counts = [max(0, k - s) for k, s in zip(kept, shares, strict=True)]
    at = 0
    for count, span in zip(counts, spans, strict=True):
        stream = words["words"][span].contiguous().view(torch.uint8)
        for length, left in zip(
            lengths["length"][at : at + count].tolist(), lengths["left"][at : at + count].tolist(), strict=True
        ):
            row, stream = _row(stream, template, length, bool(left))
            given.append(row)
        at += count
    needed = [max(0, s - k) for k, s in zip(kept, shares, strict=True)]
    start = sum(needed[: rank()])
    return mine[: shares[rank()]] + given[start : start + needed[rank()]]


def _lengths(rows: list[Row]) -> Tensor:
    return torch.tensor([row.length for row in rows], dtype=torch.int64)


def _sides(rows: list[Row]) -> Tensor:
    return torch.tensor([int(row.left) for row in rows], dtype=torch.int64)


def _bytes(row: Row) -> Tensor:
    parts = [row.sequence[key] for key in sorted(row.sequence)] + [row.other[key] for key in sorted(row.other)]
    return torch.cat([part.detach().cpu().contiguous().reshape(-1).view(torch.uint8) for part in parts])


def _words(packed: Tensor) -> Tensor:
    """As int64, padded with zero bytes."""
    return torch.nn.functional.pad(packed, (0, -len(packed) % 8)).view(torch.int64)


def _row(stream: Tensor, template: Row, length: int, left: bool) -> tuple[Row, Tensor]:
    """The first row of a stream of bytes, and the rest of it."""
    at = 0

    def take(like: Tensor, shape: tuple[int, ...]) -> Tensor:
        nonlocal at
        size = math.prod(shape) * like.dtype.itemsize
        value = stream[at : at + size].clone().view(like.dtype).view(shape).to(like.device)
        at += size
        return value

    sequence = {key: take(v, (length, *v.shape[1:])) for key, v in sorted(template.sequence.items())}
    other = {key: take(v, tuple(v.shape)) for key, v in sorted(template.other.items())}
    return replace(template, sequence=sequence, other=other, length=length, left=left), stream[at:]

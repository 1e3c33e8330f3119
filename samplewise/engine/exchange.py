"""Kept rows into as few micro-batches as possible, from ranks that have too many to ranks that have too few.

Rows travel as flat tensors with lengths.
"""

from __future__ import annotations

import heapq
import math
from collections.abc import Iterator, Sequence
from dataclasses import replace

import torch
from torch import Tensor

from samplewise.core.distributed import gather_fields, largest, rank
from samplewise.core.host import host
from samplewise.core.micro_batch import MicroBatch
from samplewise.engine.dealing import deal, micro_batches_needed
from samplewise.engine.rows import Row, rows_of

Shares = list[list[tuple[int, int]]]
"""For every rank the (rank, number) of the rows that it trains on."""


def dealt(
    batches: Sequence[MicroBatch], coefficients: list[Tensor], capacity: int, device: torch.device
) -> list[MicroBatch]:
    """The rows of a coefficient other than 0 in as few micro-batches as possible, as many on every rank.

    coefficients: of every rank's samples, fp64; they are written into the micro-batches here.
    Rows move between ranks only where that saves a micro-batch.
    """
    own, counts = coefficients[rank()], [len(micro) for micro in batches]
    marked = [replace(micro, coefficient=part) for micro, part in zip(batches, own.split(counts), strict=True)]
    if all((host(each) != 0).all() for each in coefficients):
        return marked
    given = [row for micro in marked for row in rows_of(micro)]
    mine = [row for row in given if any(row.samples["coefficient"].tolist())]
    sizes = of_all_ranks([row.size for row in mine], device)
    capacity = largest(capacity, device)
    moving = worth_moving(sizes, capacity)
    if moving:
        shares = fair_shares(sizes)
        mine = move_rows(mine, shares, given[0], device)
        sizes = [[sizes[owner][number] for owner, number in share] for share in shares]
    count = min(max(1, most_needed(sizes, capacity)), len(batches))  # chance may have dropped them all
    if not moving and len(mine) == len(given) and count == len(batches):
        return marked
    return deal(mine, given[0], max(1, math.ceil(len(mine) / count)), count)


def of_all_ranks(sizes: list[int], device: torch.device) -> list[list[int]]:
    """For each rank, its list of row sizes; the same on every rank."""
    whole, spans = gather_fields({"size": torch.tensor(sizes, dtype=torch.int64)}, device)
    return [whole["size"][span].tolist() for span in spans]


def fair_shares(sizes: list[list[int]]) -> Shares:
    """Which rows each rank trains on, so that their sizes add up to nearly the same on each; few rows move.

    sizes: of every rank's rows. A rank keeps its first ones up to its share; the others go, the largest first, to the
    rank that has least. The same on every rank.

    >>> fair_shares([[1, 1, 1, 1], [], [1]])
    [[(0, 0), (0, 1)], [(0, 2), (0, 3)], [(2, 0)]]
    """
    limits = _limits(sum(map(sum, sizes)), len(sizes))
    shares: Shares = []
    moving: list[tuple[int, int]] = []
    loads = [0] * len(sizes)
    for owner, (own, limit) in enumerate(zip(sizes, limits, strict=True)):
        kept: list[tuple[int, int]] = []
        for number, size in enumerate(own):
            stays = loads[owner] + size <= limit
            (kept if stays else moving).append((owner, number))
            loads[owner] += size if stays else 0
        shares.append(kept)
    heap = [(load, number) for number, load in enumerate(loads)]
    heapq.heapify(heap)
    for owner, number in sorted(moving, key=lambda row: -sizes[row[0]][row[1]]):
        load, lightest = heap[0]
        shares[lightest].append((owner, number))
        heapq.heapreplace(heap, (load + sizes[owner][number], lightest))
    return shares


def _limits(total: int, ranks: int) -> list[int]:
    """What each rank may keep: whole numbers that differ by one at most and sum to the total."""
    return [total // ranks + (number < total % ranks) for number in range(ranks)]


def worth_moving(sizes: list[list[int]], capacity: int) -> bool:
    """Whether fewer micro-batches would be needed if every rank had its fair share.

    >>> worth_moving([[1] * 8, []], 4), worth_moving([[1] * 5, [1] * 3], 8)
    (True, False)
    """
    needed = most_needed(sizes, capacity)
    if needed <= math.ceil(sum(map(sum, sizes)) / len(sizes) / capacity):  # no sharing could need fewer
        return False
    shared = [[sizes[owner][number] for owner, number in share] for share in fair_shares(sizes)]
    return needed > most_needed(shared, capacity)


def most_needed(sizes: list[list[int]], capacity: int) -> int:
    """How many micro-batches the rank that needs most of them needs."""
    return max(micro_batches_needed(own, capacity) for own in sizes)


def move_rows(mine: list[Row], shares: Shares, template: Row, device: torch.device) -> list[Row]:
    """This rank's share of all kept rows: what it keeps of its own, and what it is given.

    mine: the kept rows of this rank; template: any row, for the keys and dtypes of those that come.
    Cost: four collectives, for the lengths and for the bytes of the rows that move; nothing is cast.
    """
    me = rank()
    leaving = sorted({row for to, share in enumerate(shares) for row in share if row[0] != to})
    surplus = [mine[number] for owner, number in leaving if owner == me]
    given = dict(zip(leaving, _gathered(surplus, template, device), strict=True))
    return [mine[number] if owner == me else given[owner, number] for owner, number in shares[me]]


def _gathered(surplus: list[Row], template: Row, device: torch.device) -> Iterator[Row]:
    """The rows that leave their ranks, rank after rank."""
    facts = torch.tensor([[row.length, row.left, _samples(row)] for row in surplus], dtype=torch.int64).view(-1, 3)
    names = ("length", "left", "samples")
    shapes, owners = gather_fields({name: facts[:, k] for k, name in enumerate(names)}, device)
    packed = torch.cat([_bytes(row) for row in surplus]) if surplus else torch.empty(0, dtype=torch.uint8)
    words, spans = gather_fields({"words": _words(packed)}, device)
    for owner, span in zip(owners, spans, strict=True):
        stream = words["words"][span].contiguous().view(torch.uint8)
        for length, left, samples in zip(*(shapes[name][owner].tolist() for name in names), strict=True):
            row, stream = _row(stream, template, length, bool(left), samples)
            yield row


def _samples(row: Row) -> int:
    return len(row.samples["id"])


def _bytes(row: Row) -> Tensor:
    parts = [part[key] for part in row.parts for key in sorted(part)]
    return torch.cat([part.detach().cpu().contiguous().reshape(-1).view(torch.uint8) for part in parts])


def _words(packed: Tensor) -> Tensor:
    """The tensor's bytes as int64, padded with zero bytes."""
    return torch.nn.functional.pad(packed, (0, -len(packed) % 8)).view(torch.int64)


def _row(stream: Tensor, template: Row, length: int, left: bool, samples: int) -> tuple[Row, Tensor]:
    """The first row of a stream of bytes, and the rest of it."""
    at = 0

    def take(like: Tensor, shape: tuple[int, ...]) -> Tensor:
        nonlocal at
        size = math.prod(shape) * like.dtype.itemsize
        value = stream[at : at + size].clone().view(like.dtype).view(shape).to(like.device)
        at += size
        return value

    inputs, targets = (
        {key: take(v, (length, *v.shape[1:])) for key, v in sorted(part.items())}
        for part in (template.inputs, template.targets)
    )
    constant = {key: take(v, tuple(v.shape)) for key, v in sorted(template.constant.items())}
    own = {key: take(v, (samples, *v.shape[1:])) for key, v in sorted(template.samples.items())}
    row = replace(template, inputs=inputs, targets=targets, constant=constant, samples=own, length=length, left=left)
    return row, stream[at:]

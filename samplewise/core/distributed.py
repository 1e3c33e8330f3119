"""Exchange between ranks: the only importer of torch.distributed."""

from __future__ import annotations

import json
from collections.abc import Generator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from itertools import accumulate
from typing import Any, Literal

import torch
import torch.distributed as dist
from torch import Tensor

from samplewise.core.errors import SamplewiseError
from samplewise.core.host import fetched

_among: ContextVar[Any] = ContextVar("among", default=None)


@contextmanager
def among(group: Any) -> Generator[None]:
    """Inside, ranks are those of this process group; None: all processes."""
    token = _among.set(group)
    try:
        yield
    finally:
        _among.reset(token)


def world_size() -> int:
    """How many processes train together; 1 without a process group."""
    return dist.get_world_size(_among.get()) if dist.is_available() and dist.is_initialized() else 1


def rank() -> int:
    """This process's number among all of them (not among those of its machine); 0 without a process group."""
    return dist.get_rank(_among.get()) if world_size() > 1 else 0


def is_first() -> bool:
    """Whether this is the first of all processes, the one that writes files; whatever group the ranks are of."""
    with among(None):
        return rank() == 0


def ranks_at(place: int, device: torch.device | str = "cpu") -> Any:
    """The process group of the ranks that are at this place of their own smaller groups; every rank calls it.

    Of ranks (0, 1), (2, 3) that split a model in two, 0 and 2 have one half, 1 and 3 the other: they differ in rows.
    """
    places = [torch.zeros(1, dtype=torch.int64, device=device) for _ in range(dist.get_world_size())]
    dist.all_gather(places, torch.tensor([place], dtype=torch.int64, device=device))
    every: list[int] = torch.cat(places).tolist()
    groups = {each: dist.new_group([i for i, there in enumerate(every) if there == each]) for each in sorted({*every})}
    return groups[place]


def gather_fields(
    fields: dict[str, Tensor], device: torch.device | str = "cpu"
) -> tuple[dict[str, Tensor], list[slice]]:
    """Every rank's samples, in the order of ranks, the same on each rank.

    fields: 1-D tensors of one length n ≥ 0, float64 or int64, the lengths differing between ranks.
    device: where the process group exchanges (an NCCL group needs its GPU); results come back on the CPU.
    Returns the concatenated fields, [N] each, and for every rank the slice of them that is its own.
    Cost: two collectives, of one integer and of N × fields × 8 bytes. Fields travel as the bits of an int64
    matrix, so that ids are never cast.
    """
    count = len(next(iter(fields.values())))
    (local,) = fetched([fields])
    if world_size() == 1:
        return local, [slice(0, count)]
    packed = torch.stack([field.contiguous().view(torch.int64) for field in local.values()]).to(device)
    counts = [torch.zeros(1, dtype=torch.int64, device=device) for _ in range(world_size())]
    dist.all_gather(counts, torch.tensor([count], dtype=torch.int64, device=device), group=_among.get())
    sizes: list[int] = torch.cat(counts).tolist()  # one wait for the device, not one a rank
    padded = packed.new_zeros(len(fields), max(sizes))
    padded[:, :count] = packed
    parts = [torch.zeros_like(padded) for _ in sizes]
    dist.all_gather(parts, padded, group=_among.get())
    whole = torch.cat([part[:, :size] for part, size in zip(parts, sizes, strict=True)], 1).cpu()
    ends = list(accumulate(sizes))
    gathered = {name: whole[k].view(field.dtype) for k, (name, field) in enumerate(local.items())}
    return gathered, [slice(end - size, end) for end, size in zip(ends, sizes, strict=True)]


def reduce_(values: Tensor, how: Literal["max", "min", "sum"], group: Any) -> Tensor:
    """`values`, in place, the largest, smallest or sum of those of all ranks of the process group."""
    ways = {"max": dist.ReduceOp.MAX, "min": dist.ReduceOp.MIN, "sum": dist.ReduceOp.SUM}
    dist.all_reduce(values, ways[how], group=group)
    return values


def largest(value: int, device: torch.device | str = "cpu") -> int:
    """The largest of every rank's `value`."""
    if world_size() == 1:
        return value
    tensor = torch.tensor([value], dtype=torch.int64, device=device)
    dist.all_reduce(tensor, dist.ReduceOp.MAX, group=_among.get())
    return int(tensor)


def totals(values: list[float], device: torch.device | str = "cpu") -> list[float]:
    """The sums of every rank's `values`, in fp64 (fp32 where the device knows no other)."""
    if world_size() == 1:
        return values
    dtype = torch.float32 if torch.device(device).type == "mps" else torch.float64
    tensor = torch.tensor(values, dtype=dtype, device=device)
    dist.all_reduce(tensor, dist.ReduceOp.SUM, group=_among.get())
    return tensor.tolist()


def check_same(facts: Mapping[str, str], device: torch.device | str = "cpu") -> None:
    """Compare what all ranks must have in common, such as the rule, the seed and the version; once, before a step.

    facts: values by name, the names being the same on every rank. Cost: two collectives, of a number and of the text.
    Errors: the same SamplewiseError on all ranks, naming what differs and on which ranks.
    """
    if world_size() == 1:
        return
    text = json.dumps(dict(facts)).encode()
    padded = bytearray(text.ljust(-(-len(text) // 8) * 8))  # blanks after JSON mean nothing
    words, spans = gather_fields({"words": torch.frombuffer(padded, dtype=torch.int64)}, device)
    every = [json.loads(words["words"][span].numpy().tobytes()) for span in spans]
    values = {name: [each[name] for each in every] for name in facts}
    different = {name: found for name, found in values.items() if len(set(found)) > 1}
    if different:
        raise SamplewiseError(
            ", ".join(different), expected="the same on all ranks", got="; ".join(map(_by_rank, different.values())),
            remedy="Launch all ranks from one script, with the same arguments and the same versions.",
        )  # fmt: skip


def _by_rank(values: list[str]) -> str:
    """Which value on which ranks.

    >>> _by_rank(["a", "b", "a"])
    'a on rank 0 2, b on rank 1'
    """
    ranks: dict[str, list[str]] = {}
    for number, value in enumerate(values):
        ranks.setdefault(value, []).append(str(number))
    few = {value: " ".join(on[:8]) + (" …" if len(on) > 8 else "") for value, on in ranks.items()}
    return ", ".join(f"{value} on rank {on}" for value, on in few.items())

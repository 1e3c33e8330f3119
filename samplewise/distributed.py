"""Exchange between ranks: the only importer of torch.distributed."""

from __future__ import annotations

from itertools import accumulate

import torch
import torch.distributed as dist
from torch import Tensor


def world_size() -> int:
    """How many processes train together; 1 without a process group."""
    return dist.get_world_size() if dist.is_available() and dist.is_initialized() else 1


def rank() -> int:
    """This process's number among all of them (not among those of its machine); 0 without a process group."""
    return dist.get_rank() if world_size() > 1 else 0


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
    local = {name: field.detach().cpu() for name, field in fields.items()}
    if world_size() == 1:
        return local, [slice(0, count)]
    packed = torch.stack([field.contiguous().view(torch.int64) for field in local.values()]).to(device)
    counts = [torch.zeros(1, dtype=torch.int64, device=device) for _ in range(world_size())]
    dist.all_gather(counts, torch.tensor([count], dtype=torch.int64, device=device))
    sizes = [int(each) for each in counts]
    padded = packed.new_zeros(len(fields), max(sizes))
    padded[:, :count] = packed
    parts = [torch.zeros_like(padded) for _ in sizes]
    dist.all_gather(parts, padded)
    whole = torch.cat([part[:, :size] for part, size in zip(parts, sizes, strict=True)], 1).cpu()
    ends = list(accumulate(sizes))
    gathered = {name: whole[k].view(field.dtype) for k, (name, field) in enumerate(local.items())}
    return gathered, [slice(end - size, end) for end, size in zip(ends, sizes, strict=True)]


def largest(value: int, device: torch.device | str = "cpu") -> int:
    """The largest of every rank's `value`."""
    if world_size() == 1:
        return value
    tensor = torch.tensor([value], dtype=torch.int64, device=device)
    dist.all_reduce(tensor, dist.ReduceOp.MAX)
    return int(tensor)


def total(value: int, device: torch.device | str = "cpu") -> int:
    """The sum of every rank's `value`."""
    if world_size() == 1:
        return value
    tensor = torch.tensor([value], dtype=torch.int64, device=device)
    dist.all_reduce(tensor, dist.ReduceOp.SUM)
    return int(tensor)

"""Memory of a device that its allocator knows: what a piece of work takes at most, and how much is free."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import torch
else:
    from samplewise.core.lazy import torch


def peak_bytes(work: Callable[[], object], device: torch.device) -> int:
    """The most that `work` takes on a CUDA device above what was there before."""
    torch.cuda.synchronize(device)
    torch.cuda.reset_peak_memory_stats(device)
    before = torch.cuda.memory_allocated(device)
    work()
    torch.cuda.synchronize(device)
    return torch.cuda.max_memory_allocated(device) - before


def free_bytes(device: torch.device) -> int:
    """What this process could still allocate on a CUDA device: the driver's free memory, and its own that is unused."""
    unused = torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device)
    return torch.cuda.mem_get_info(device)[0] + unused


def give_unused_back() -> None:
    """Return what the allocator keeps unused, in pieces that may be too small for what is asked next."""
    if torch.cuda.is_available():
        torch.cuda.empty_cache()

"""Which ranks have rows of their own, where tensor parallelism gives several of them the same ones."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from samplewise.core.distributed import ranks_at
from samplewise.core.errors import SamplewiseError
from samplewise.losses.body import unwrapped
from samplewise.losses.sharded import tensor_parallel_mesh


@dataclass(frozen=True)
class ParallelRanks:
    """data: the process group of the ranks that differ in rows, None for all. same: of those with this rank's rows.

    once: whether gradients allow one backward a step only.
    """

    data: Any = None
    same: Any = None
    once: bool = False

    def backwards(self, count: int) -> int:
        """The number of backwards of a step. Errors: SamplewiseError where so many give wrong gradients."""
        if self.once and count > 1:
            raise SamplewiseError(
                "micro-batches", expected="one a step for this model's tp_plan, which sums the gradients of norms over "
                "ranks after every backward, those of earlier ones again", got=count,
                remedy="Give each step one micro-batch, or use FSDP2 alone.",
            )  # fmt: skip
        return count


SUMMED_AFTER_EACH = "replicated_with_grad_allreduce"
"""transformers' style for norms within heads (Qwen 3's q_norm and k_norm)."""
ALL_RANKS = ParallelRanks()


def parallel_ranks(model: nn.Module, device: torch.device, same_rows: bool) -> ParallelRanks:
    """The groups of a model that is split over a mesh with a dimension "tp"; all ranks call it.

    Errors: SamplewiseError for such a model in a loop that gives every rank rows of its own: the step would count the
    rows of each, and the model mix them up.
    """
    mesh = tensor_parallel_mesh(model)
    if mesh is None:
        return ALL_RANKS
    if not same_rows:
        raise SamplewiseError(
            "model", expected="ranks with rows of their own", got="tensor parallelism",
            remedy="Use FSDP2 alone, or WeightedStep in a loop of your own: docs/ranks.md.",
        )  # fmt: skip
    plan: Any = getattr(unwrapped(model), "_tp_plan", None) or {}
    return ParallelRanks(ranks_at(mesh.get_local_rank(), device), mesh.get_group(), SUMMED_AFTER_EACH in plan.values())

"""Heads that FSDP2 shards on their own: used inside their own call, so that FSDP gathers them and reduces gradients.

What FSDP does to a call under a mixed precision policy (cast what goes in and comes out) must not happen to losses and
weights: they go through it sealed.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

from torch import Tensor, nn

from samplewise.losses.body import forward_of
from samplewise.losses.kernels import Shard

T = TypeVar("T")
SHARDING = ("torch.distributed.fsdp", "torch.distributed.tensor", "deepspeed.")
"""Whose hooks gather parameters and reduce gradients, and do nothing to what goes through a call."""


class Sealed(Generic[T]):
    """What DDP and FSDP hand through a call without looking in: they cast the tensors of dicts, tuples, dataclasses."""

    def __init__(self, content: T) -> None:
        self.content = content


def is_unit(module: nn.Module) -> bool:
    """Whether FSDP2's `fully_shard` was called on this module, alone or in a group."""
    return hasattr(module, "unshard") and hasattr(module, "set_requires_gradient_sync")


def in_pieces(parameter: Tensor | None) -> bool:
    """Whether it is a DTensor: the rank holds a piece, or a view of all pieces."""
    return hasattr(parameter, "full_tensor")


def own_part(values: Any) -> Tensor:
    """What this rank holds of a DTensor, the same memory; any other tensor is itself."""
    return values.to_local() if in_pieces(values) else values


def is_tensor_parallel(parameter: Tensor | None) -> bool:
    """Whether it is split over a mesh with a dimension "tp", whose ranks work on the same rows."""
    mesh: Any = getattr(parameter, "device_mesh", None)
    return "tp" in (getattr(mesh, "mesh_dim_names", None) or ())


def tensor_parallel_mesh(model: nn.Module) -> Any:
    """The mesh, of the one dimension "tp", over which the model is split: its ranks need the same rows. Else None."""
    split = next((each for each in model.parameters() if is_tensor_parallel(each)), None)
    mesh: Any = getattr(split, "device_mesh", None)
    return mesh if mesh is None or mesh.ndim == 1 else mesh["tp"]


def is_gathered_in_forward(model: nn.Module) -> bool:
    """Whether parameters are whole inside the forward only: FSDP2's. Tensor parallelism computes with the pieces."""
    return any(
        is_unit(module) or any(in_pieces(p) and not is_tensor_parallel(p) for p in module.parameters(recurse=False))
        for module in model.modules()
    )


def vocabulary_shard(weight: Any) -> Shard | None:
    """Which rows of the vocabulary this rank has of a head that is split by "tp" alone, column by column; else None.

    While FSDP2 has gathered the head, its own dimension is gone from the mesh.
    """
    if not is_tensor_parallel(weight) or weight.device_mesh.mesh_dim_names != ("tp",):
        return None
    (placement,), mesh = weight.placements, weight.device_mesh
    if type(placement).__name__ != "Shard" or placement.dim != 0:
        return None
    each = -(-weight.shape[0] // mesh.size())  # as DTensor cuts
    return Shard(mesh.get_group(), mesh.size(), mesh.get_local_rank() * each, weight.shape[0])


def has_foreign_hooks(module: nn.Module) -> bool:
    """Whether the module has forward hooks that are not FSDP's or DeepSpeed's: what they do would be left out.

    Those of tensor parallelism, which lay out what goes through, are done by the kernel of a split head.
    """
    hooks = [*module._forward_hooks.values(), *module._forward_pre_hooks.values()]
    return any(not getattr(hook, "__module__", "").startswith(SHARDING) for hook in hooks)


@dataclass(frozen=True)
class Unit:
    """The module that FSDP2 shards the head with: the output embedding, or PEFT's wrapper around its copies.

    called: whether the model's own forward calls it before the losses are computed. FSDP has gathered it then, and one
    more call would reduce its group's gradients before the final norm's are there.
    """

    module: Any
    called: bool

    def run(self, hidden: Tensor, compute: Callable[[Tensor], tuple[Tensor, T]]) -> T:
        """What `compute` makes of hidden while the head is whole.

        compute: returns a tensor that a backward will go through, for FSDP to hang its hooks on, and the result.
        """
        if self.called:
            self.module.unshard()  # nothing to do unless it was resharded after its call
            return compute(hidden)[1]
        with forward_of(self.module, lambda _, given: _sealed(compute(given))):
            return self.module(hidden)[1].content


def _sealed(made: tuple[Tensor, T]) -> tuple[Tensor, Sealed[T]]:
    return made[0], Sealed(made[1])

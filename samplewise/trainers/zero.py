"""DeepSpeed: it reduces, clips and updates inside the last backward, and its ZeRO stage 3 partitions the head."""

from __future__ import annotations

from typing import Any

from torch import nn

from samplewise.core.errors import SamplewiseError
from samplewise.losses.body import unwrapped


def has_deepspeed(accelerator: Any) -> bool:
    """Whether the update comes inside the last backward: gradients can be neither multiplied nor discarded."""
    kind = getattr(accelerator, "distributed_type", None)
    return str(getattr(kind, "value", kind)) == "DEEPSPEED"


def not_discarded(reason: Exception) -> SamplewiseError:
    """The error of a step whose unnormalized weights cannot be used, where its gradients are DeepSpeed's."""
    return SamplewiseError(
        "loss", expected="finite losses: DeepSpeed's gradients cannot be discarded", got=str(reason),
        remedy="Use a rule that runs in two passes, which leaves such samples out, or clean the data.",
    )  # fmt: skip


def gather_head(model: nn.Module, accelerator: Any) -> None:
    """Make DeepSpeed gather the head for the model's whole forward and backward, where the kernel needs it.

    Only its ZeRO stage 3 needs this: there the head's weight is whole nowhere outside the head's own forward.

    model: that losses are asked of, before or after `deepspeed.initialize`; registered twice it is gathered once. The
    gradient of the whole head is partitioned like any other. It costs one gather of the head a forward and one a
    backward, as calling the head does, and memory for the whole head meanwhile (and for its gradient in backward).
    """
    plugin = None if accelerator is None else getattr(accelerator.state, "deepspeed_plugin", None)
    if plugin is None or plugin.zero_stage != 3:
        return
    import deepspeed  # pyright: ignore[reportMissingImports]

    inner: Any = unwrapped(model)
    head = inner.get_output_embeddings() if hasattr(inner, "get_output_embeddings") else None
    for parameter in () if head is None else head.parameters():
        deepspeed.zero.register_external_parameter(model, parameter)

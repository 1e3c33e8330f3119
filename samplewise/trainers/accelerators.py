"""What accelerate and Lightning Fabric must not be set to do together with sample weighting."""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext
from typing import Any

from torch import nn

from samplewise.core.errors import SamplewiseError
from samplewise.trainers.zero import has_deepspeed, not_discarded


def autocast(accelerator: Any) -> AbstractContextManager[Any]:
    """What accelerate or Fabric runs a model under; nothing under FSDP2, whose own policy casts what the model gets."""
    if accelerator is None or getattr(accelerator, "is_fsdp2", False):
        return nullcontext()
    return accelerator.autocast()


def discard_gradients(model: Any, reason: Any, accelerator: Any = None) -> None:
    """Set the gradients of a step to zero that `RetryInTwoPasses` ended. Errors: SamplewiseError under DeepSpeed.

    FSDP2 keeps what is accumulated without communication where `zero_grad` does not reach it, until a backward reduces
    it: so the last micro-batch has its backward too.
    """
    if has_deepspeed(accelerator):
        raise not_discarded(reason) from None
    if hasattr(model, "set_requires_gradient_sync"):
        reason.objective.backward()
    model.zero_grad()


def check_accelerator(accelerator: Any) -> None:
    """Errors: SamplewiseError for Megatron and an accumulation of its own."""
    kind = str(getattr(accelerator.distributed_type, "value", accelerator.distributed_type))
    if kind == "MEGATRON_LM":
        raise SamplewiseError(
            "accelerator", expected="DDP, FSDP2, DeepSpeed or one process", got=kind,
            remedy="Use one of those: Megatron runs its own loop, and splits the head.",
        )  # fmt: skip
    if accelerator.gradient_accumulation_steps != 1:
        raise SamplewiseError(
            "gradient_accumulation_steps", expected="1: plan(…) is given all micro-batches of a step",
            got=accelerator.gradient_accumulation_steps, remedy="Leave it out of Accelerator(…).",
        )  # fmt: skip


def check_fabric(fabric: Any, model: nn.Module, accelerator: Any) -> None:
    """Errors: SamplewiseError for a model without `fabric.setup`, split parameters, and scaled losses."""
    strategy, precision = type(fabric.strategy).__name__, str(fabric.strategy.precision.precision)
    if accelerator is not None:
        raise SamplewiseError(
            "fabric", expected="none beside an accelerator", got="both", remedy="Pass the one that prepared the model."
        )
    if not hasattr(model, "mark_forward_method"):
        raise SamplewiseError(
            "model", expected="the model that fabric.setup(…) returns", got=type(model).__name__,
            remedy="model, optimizer = fabric.setup(model, optimizer), then WeightedStep(model, rule, fabric=fabric).",
        )  # fmt: skip
    if strategy not in ("SingleDeviceStrategy", "DDPStrategy"):
        raise SamplewiseError(
            "fabric", expected="one device, or the strategy 'ddp'", got=strategy,
            remedy="Where parameters are split: fully_shard(model), and WeightedStep without fabric.",
        )  # fmt: skip
    if precision not in ("32-true", "64-true", "bf16-mixed"):
        raise SamplewiseError(
            "precision", expected="'32-true', '64-true' or 'bf16-mixed'", got=repr(precision),
            remedy="Use 'bf16-mixed', which needs no scaled loss.",
        )  # fmt: skip

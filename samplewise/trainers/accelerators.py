"""What accelerate must not be set to do together with sample weighting."""

from __future__ import annotations

from typing import Any

from samplewise.core.errors import SamplewiseError


def check_accelerator(accelerator: Any) -> None:
    """Errors: SamplewiseError for DeepSpeed, Megatron and an accumulation of its own."""
    kind = str(getattr(accelerator.distributed_type, "value", accelerator.distributed_type))
    if kind in ("DEEPSPEED", "MEGATRON_LM"):
        raise SamplewiseError(
            "accelerator", expected="DDP, FSDP2 or one process", got=kind,
            remedy="DeepSpeed steps inside backward: use WeightedTrainer, which runs it in two passes.",
        )  # fmt: skip
    if accelerator.gradient_accumulation_steps != 1:
        raise SamplewiseError(
            "gradient_accumulation_steps", expected="1: plan(…) is given all micro-batches of a step",
            got=accelerator.gradient_accumulation_steps, remedy="Leave it out of Accelerator(…).",
        )  # fmt: skip

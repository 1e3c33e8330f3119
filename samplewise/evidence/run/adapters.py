"""LoRA adapters on the model of a run. Needs the extra `trl`, which brings peft."""

from __future__ import annotations

from typing import Any

from transformers import set_seed

from samplewise.config import LoraConfig
from samplewise.core.errors import SamplewiseError


def with_adapters(model: Any, lora: LoraConfig, name: str, seed: int) -> Any:
    """The model with adapters, which alone are trained.

    name: of the model, for the adapters' own file. seed: of the adapters' first values.
    Errors: SamplewiseError for what peft refuses, such as layers that the model does not have.
    """
    import peft

    set_seed(seed)
    try:
        config = peft.LoraConfig(
            r=lora.r, lora_alpha=lora.alpha, lora_dropout=lora.dropout,  # pyright: ignore[reportArgumentType]
            target_modules=lora.target_modules, task_type="CAUSAL_LM", base_model_name_or_path=name,
        )  # fmt: skip
        return peft.get_peft_model(model, config)
    except (ValueError, TypeError) as error:
        got = " ".join(str(error).split())
        raise SamplewiseError(
            "lora", expected="what peft takes", got=got, remedy="Check the values under lora."
        ) from error


def trained_bytes(model: Any) -> int:
    """Bytes of what is trained, and so saved: the adapters where there are some, else the whole model."""
    adapted = hasattr(model, "peft_config")
    return sum(p.numel() * p.element_size() for p in model.parameters() if p.requires_grad or not adapted)

"""Adapters of PEFT, with every trainable weight away from zero, so that each has a gradient to get wrong."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import peft
import torch
from torch import nn

TARGETS = r".*\.(q_proj|v_proj|c_attn|query_key_value|qkv_proj|o_proj|fc1|down_proj)"

INVOCATION = 5

ADAPTERS: dict[str, Callable[[], Any]] = {
    "lora": lambda: peft.LoraConfig(r=2, lora_alpha=4, target_modules=TARGETS),
    "rslora": lambda: peft.LoraConfig(r=2, lora_alpha=4, target_modules=TARGETS, use_rslora=True),
    "dora": lambda: peft.LoraConfig(r=2, lora_alpha=4, target_modules=TARGETS, use_dora=True),
    "lora_bias": lambda: peft.LoraConfig(r=2, target_modules=TARGETS, bias="all"),
    "lora_head": lambda: peft.LoraConfig(r=2, target_modules=TARGETS, modules_to_save=["lm_head"]),
    "lora_on_head": lambda: peft.LoraConfig(r=2, target_modules=r".*\.(q_proj|c_attn|query_key_value|lm_head)"),
    "alora": lambda: peft.LoraConfig(r=2, target_modules=TARGETS, alora_invocation_tokens=[INVOCATION]),
    "ia3": lambda: peft.IA3Config(target_modules=TARGETS, feedforward_modules=[]),
    "loha": lambda: peft.LoHaConfig(r=2, alpha=4, target_modules=TARGETS),
    "lokr": lambda: peft.LoKrConfig(r=2, alpha=4, target_modules=TARGETS),
    "oft": lambda: peft.OFTConfig(r=0, oft_block_size=4, target_modules=TARGETS),
    "vera": lambda: peft.VeraConfig(r=2, target_modules=r".*\.(q_proj|v_proj)"),
    "prompt": lambda: peft.PromptTuningConfig(num_virtual_tokens=3),
}


def adapt(model: nn.Module, kind: str, seed: int) -> nn.Module:
    """The model with adapters of this kind, of which every trainable weight has been moved."""
    if kind == "none":
        return model
    with torch.random.fork_rng():
        torch.manual_seed(seed + 1)
        config = ADAPTERS[kind]()
        config.task_type = "CAUSAL_LM"
        adapted = peft.get_peft_model(model, config)  # pyright: ignore[reportArgumentType]
        with torch.no_grad():
            for parameter in adapted.parameters():
                if parameter.requires_grad:
                    parameter.add_(torch.randn_like(parameter) * 0.1)
    return adapted

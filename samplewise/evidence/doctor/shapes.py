"""Models of known dimensions with random weights: nothing is downloaded."""

from __future__ import annotations

from typing import Any

import torch

from samplewise.core.errors import SamplewiseError, missing_extra, nearest
from samplewise.core.exhausted import lacks_memory
from samplewise.models import load_model

SHAPES: dict[str, dict[str, Any]] = {
    "tiny": {
        "model_type": "llama", "vocab_size": 8192, "hidden_size": 64, "intermediate_size": 128, "num_hidden_layers": 2,
        "num_attention_heads": 4,
    },
    "smollm-135m": {
        "model_type": "llama", "vocab_size": 49152, "hidden_size": 576, "intermediate_size": 1536,
        "num_hidden_layers": 30, "num_attention_heads": 9, "num_key_value_heads": 3, "tie_word_embeddings": True,
    },
    "llama-1b": {
        "model_type": "llama", "vocab_size": 128256, "hidden_size": 2048, "intermediate_size": 8192,
        "num_hidden_layers": 16, "num_attention_heads": 32, "num_key_value_heads": 8, "head_dim": 64,
        "tie_word_embeddings": True, "max_position_embeddings": 131072,
    },
    "gemma-1b": {
        "model_type": "gemma3_text", "vocab_size": 262144, "hidden_size": 1152, "intermediate_size": 6912,
        "num_hidden_layers": 26, "num_attention_heads": 4, "num_key_value_heads": 1, "head_dim": 256,
        "tie_word_embeddings": True, "sliding_window": 512, "query_pre_attn_scalar": 256,
    },
    "qwen-4b": {
        "model_type": "qwen3", "vocab_size": 151936, "hidden_size": 2560, "intermediate_size": 9728,
        "num_hidden_layers": 36, "num_attention_heads": 32, "num_key_value_heads": 8, "head_dim": 128,
        "tie_word_embeddings": True, "max_position_embeddings": 40960,
    },
}  # fmt: skip
"""The dimensions of Llama 3.2 1B, Gemma 3 1B, Qwen3 4B and SmolLM2 135M; `tiny` is a model of our own for CPUs."""


def default_shape(device: torch.device) -> str:
    """What a device is examined with where nothing else is said."""
    return {"cuda": "llama-1b", "mps": "smollm-135m"}.get(device.type, "tiny")


def build(name: str, device: torch.device, dtype: torch.dtype = torch.float32, **changes: Any) -> Any:
    """A causal language model of these dimensions, its random weights made on the device.

    changes: of the config. Errors: SamplewiseError for an unknown name.

    >>> sum(p.numel() for p in build("tiny", torch.device("cpu")).parameters())
    1130816
    """
    if name not in SHAPES:
        raise SamplewiseError(
            "--shape", expected=f"one of {', '.join(SHAPES)}", got=repr(name), remedy=nearest(name, SHAPES)
        )
    try:
        from transformers import AutoConfig, AutoModelForCausalLM
    except ModuleNotFoundError:
        raise missing_extra("transformers", "hf", "doctor") from None
    torch.manual_seed(0)
    config = AutoConfig.for_model(**{**SHAPES[name], **changes}, bos_token_id=1, eos_token_id=2, pad_token_id=0)
    with torch.device(device):
        return AutoModelForCausalLM.from_config(config, dtype=dtype).eval()


def open_subject(model: str | None, shape: str | None, device: torch.device) -> tuple[str, Any]:
    """(name, model in fp32 on the device) of `--model` or `--shape`; without either, the device's own shape.

    Errors: SamplewiseError for both at once, and where the device has no room for it.
    """
    if model is not None and shape is not None:
        raise SamplewiseError(
            "--shape", expected="either --model or --shape", got="both", remedy="Leave one of them out."
        )
    name = model or shape or default_shape(device)
    try:
        return name, load_model(model)[0].to(device) if model is not None else build(name, device)
    except RuntimeError as error:
        if not lacks_memory(error):
            raise
        raise SamplewiseError(
            name, expected=f"room for its fp32 weights on {device}", got="out of memory",
            remedy="Examine a smaller one, such as --shape smollm-135m, or free the device.",
        ) from None  # fmt: skip

"""Tiny random causal language models of many architectures, every parameter away from its usual start."""

from __future__ import annotations

from typing import Any

import torch
import transformers
from torch import nn
from transformers import PreTrainedModel

VOCABULARY = 53
_OLD = {"n_embd": 16, "n_layer": 2, "n_head": 2, "n_positions": 64}
_EXPERTS = {"num_experts_per_tok": 2, "moe_intermediate_size": 24}
_TABLE: dict[str, tuple[str, dict[str, Any]]] = {
    "llama": ("LlamaConfig", {}),
    "mistral": ("MistralConfig", {"sliding_window": 5}),
    "qwen2": ("Qwen2Config", {}),
    "qwen3": ("Qwen3Config", {"head_dim": 8}),
    "gemma": ("GemmaConfig", {"head_dim": 8}),
    "gemma2": ("Gemma2Config", {"head_dim": 8, "sliding_window": 5, "query_pre_attn_scalar": 8}),
    "gemma3": ("Gemma3TextConfig", {"head_dim": 8, "sliding_window": 5, "query_pre_attn_scalar": 8}),
    "phi3": ("Phi3Config", {}),
    "olmo2": ("Olmo2Config", {}),
    "smollm3": ("SmolLM3Config", {}),
    "stablelm": ("StableLmConfig", {}),
    "starcoder2": ("Starcoder2Config", {"residual_dropout": 0.0, "embedding_dropout": 0.0}),
    "glm": ("GlmConfig", {"head_dim": 8}),
    "granite": ("GraniteConfig", {"logits_scaling": 3.0, "embedding_multiplier": 2.0, "residual_multiplier": 0.7}),
    "cohere": ("CohereConfig", {"logit_scale": 0.3}),
    "cohere2": ("Cohere2Config", {"logit_scale": 0.3, "sliding_window": 5, "head_dim": 8}),
    "gpt_neox": ("GPTNeoXConfig", {"hidden_dropout": 0.0, "attention_dropout": 0.0}),
    "opt": ("OPTConfig", {"ffn_dim": 24, "word_embed_proj_dim": 16, "dropout": 0.0, "max_position_embeddings": 64}),
    "gpt2": ("GPT2Config", {**_OLD, "resid_pdrop": 0.0, "embd_pdrop": 0.0, "attn_pdrop": 0.0}),
    "bloom": ("BloomConfig", {"n_layer": 2, "n_head": 2, "hidden_dropout": 0.0, "attention_dropout": 0.0}),
    "mixtral": ("MixtralConfig", {"num_local_experts": 4}),
    "qwen3_moe": ("Qwen3MoeConfig", {"num_experts": 4, "head_dim": 8, **_EXPERTS}),
    "olmoe": ("OlmoeConfig", {"num_experts": 4, **_EXPERTS}),
    "granitemoe": ("GraniteMoeConfig", {"num_local_experts": 4, "num_experts_per_tok": 2, "logits_scaling": 3.0}),
}
ARCHITECTURES = list(_TABLE)
ROUTED = ("mixtral", "qwen3_moe", "olmoe", "granitemoe")
EAGER_ONLY = ("gemma2", "bloom")
ROUTER_COEFFICIENT = 0.2


def build(
    architecture: str, *, seed: int, tied: bool = False, attention: str = "sdpa", router: bool = False
) -> PreTrainedModel:
    """The model of this seed, in fp32. router: with its load-balancing term, which counts `ROUTER_COEFFICIENT`."""
    name, own = _TABLE[architecture]
    options: dict[str, Any] = {
        "vocab_size": VOCABULARY, "hidden_size": 16, "intermediate_size": 24, "num_hidden_layers": 2,
        "num_attention_heads": 2, "num_key_value_heads": 2, "pad_token_id": 0, "bos_token_id": 1, "eos_token_id": 2,
        "tie_word_embeddings": tied, "max_position_embeddings": 64, **own,
    }  # fmt: skip
    if router:
        options |= {"output_router_logits": True, "router_aux_loss_coef": ROUTER_COEFFICIENT}
    attention = "eager" if architecture in EAGER_ONLY else attention
    config = getattr(transformers, name)(**options)
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        model = transformers.AutoModelForCausalLM.from_config(config, attn_implementation=attention)
        with torch.no_grad():
            for parameter in model.parameters():
                parameter.add_(torch.randn_like(parameter) * 0.25)
    return model


def in_double(model: nn.Module) -> nn.Module:
    """The model in fp64, its experts one by one: grouped products know no fp64."""
    for module in model.modules():
        config = getattr(module, "config", None)
        if getattr(config, "_experts_implementation", None) is not None:
            config._experts_implementation = "eager"  # pyright: ignore[reportOptionalMemberAccess]
    return model.double()

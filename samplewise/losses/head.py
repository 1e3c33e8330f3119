"""The head of a causal language model: found, and refused where it is more than a matrix product.

Shapes: B rows, T positions, D hidden size, V vocabulary.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from torch import Tensor, nn

from samplewise.core.errors import SamplewiseError
from samplewise.losses.body import Hidden, body_of, decoder_of, unwrapped
from samplewise.losses.own_terms import refuse_unweighable

REMEDY = 'Use logits="allow" to train from logits, which takes more memory.'


@dataclass(frozen=True)
class Head:
    """What stands between a model's hidden states and its logits.

    body: the model without its head, inside PEFT's own forward; body(**inputs).last_hidden_state [B, T, D], no cache.
    weight [V, D], bias [V] or None: parameters of the output embedding.
    softcap, scale: logits = softcap·tanh((hidden·weightᵀ + bias)·scale / softcap).
    """

    body: Callable[..., Hidden]
    weight: Tensor
    bias: Tensor | None
    softcap: float | None
    scale: float


def find_head(model: nn.Module, remedy: str = REMEDY) -> Head:
    """The body and head of a transformers causal LM, PEFT-wrapped or not; SamplewiseError says what is missing.

    remedy: what the error advises for a head without a logits-free path.

    >>> from transformers import LlamaConfig, LlamaForCausalLM
    >>> sizes = dict(hidden_size=8, intermediate_size=8, num_hidden_layers=1, num_attention_heads=2)
    >>> find_head(LlamaForCausalLM(LlamaConfig(vocab_size=32, **sizes))).weight.shape
    torch.Size([32, 8])
    """
    refuse_unweighable(model)
    inner = unwrapped(model)
    name = type(inner).__name__
    config = getattr(inner, "config", None)
    body = decoder_of(inner)
    head = inner.get_output_embeddings() if hasattr(inner, "get_output_embeddings") else None  # pyright: ignore[reportCallIssue]
    if config is None or body is inner or head is None or getattr(config, "is_encoder_decoder", False):
        raise SamplewiseError(
            "model", expected="a causal LM of transformers: config, base_model and get_output_embeddings()", got=name,
            remedy="Pass the model itself, before DDP or compile; there is no logits-free path for other models.",
        )  # fmt: skip
    head = _called(head)
    _check_linear(name, head, remedy)
    text = config.get_text_config()
    return Head(body_of(model), head.weight, head.bias, _softcap(text), _scale(text))


def _called(head: nn.Module) -> Any:
    """What a wrapper of PEFT's `modules_to_save` calls: the active adapter's own copy, or the original without one."""
    copies: Any = getattr(head, "modules_to_save", None)
    if not isinstance(copies, nn.ModuleDict) or head._forward_hooks or head._forward_pre_hooks:
        return head
    wrapper: Any = head
    active = [] if wrapper.disable_adapters else wrapper.active_adapters
    return copies[active[0]] if active and all(name in copies for name in active) else wrapper.original_module


def _check_linear(name: str, head: nn.Module, remedy: str) -> None:
    """Only a plain linear head is hidden·weightᵀ + bias: no adapter, no quantisation, no hook, no shards."""
    weight = getattr(head, "weight", None)
    found = None
    if hasattr(head, "base_layer") or hasattr(head, "original_module"):
        found = "one adapted by PEFT (LoRA, or single tokens trained)"
        remedy = f"Leave the head out of target_modules and trainable_token_indices. Or: {remedy}"
    elif (
        type(head).forward is not nn.Linear.forward or not isinstance(weight, Tensor) or not weight.is_floating_point()
    ):
        found = "one with a forward of its own"
    elif hasattr(weight, "full_tensor"):
        found = "one sharded on its own; shard it with the root module and call the model, not its parts"
    elif head._forward_hooks or head._forward_pre_hooks:
        found = "one with forward hooks, which would not run"
    if found is not None:
        raise SamplewiseError(
            "model", expected="a plain nn.Linear as output embedding", got=f"{type(head).__name__} in {name}: {found}",
            remedy=remedy,
        )  # fmt: skip


def _softcap(config: Any) -> float | None:
    """Gemma and others: final_logit_softcapping; RecurrentGemma: logits_soft_cap."""
    cap = getattr(config, "final_logit_softcapping", None)
    return cap if cap is not None else getattr(config, "logits_soft_cap", None)


def _scale(config: Any) -> float:
    """What logits are multiplied by, under the names that models have for it (transformers 5)."""
    for name in ("logit_scale", "output_multiplier", "lm_head_multiplier"):  # Cohere; Muse; Falcon-H1
        if isinstance(getattr(config, name, None), (int, float)):
            return float(getattr(config, name))
    scaling = getattr(config, "logits_scaling", None)
    if scaling is None:
        return 1.0
    return float(scaling) if config.model_type == "hyperclovax" else 1 / scaling  # Granite, MiniCPM3 divide

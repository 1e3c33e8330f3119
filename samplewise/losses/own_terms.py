"""Loss terms that a model or its adapters add to the token losses, and models that cannot be weighted."""

from __future__ import annotations

from typing import Any

from torch import nn

from samplewise.core.errors import SamplewiseError

COEFFICIENTS = ("router_aux_loss_coef", "aux_loss_coef")
"""What a router's term is multiplied by: an attribute of the model, or of its text config (wrappers with images)."""
ALTERNATIVES = "Train LoRA, or prefix tuning (peft.PrefixTuningConfig): both can be combined with sample weighting."


def text_config(model: nn.Module) -> Any:
    """The config of the language model, through DDP and PEFT; None for models without one."""
    config: Any = getattr(getattr(model, "module", model), "config", None)
    return config.get_text_config() if hasattr(config, "get_text_config") else config


def has_router_term(model: nn.Module) -> bool:
    """Whether the model adds its router's load-balancing term to its loss."""
    return bool(getattr(text_config(model), "output_router_logits", False))


def has_adapter_term(model: nn.Module) -> bool:
    """Whether the adapter adds a term to the model's loss: AdaLoRA's orthogonality."""
    return any(getattr(config, "orth_reg_weight", 0) > 0 for config in _adapters(model))


def has_own_term(model: nn.Module) -> bool:
    """Whether anything is added to the loss of the tokens."""
    return has_router_term(model) or has_adapter_term(model)


def coefficient(inner: nn.Module) -> float:
    """The factor of the model's router term in its loss. Errors: SamplewiseError where no config names it."""
    for owner in (inner, text_config(inner)):
        for name in COEFFICIENTS:
            if isinstance(getattr(owner, name, None), (int, float)):
                return float(getattr(owner, name))
    raise SamplewiseError(
        "model", expected=f"a router's coefficient: {' or '.join(COEFFICIENTS)}", got=type(inner).__name__,
        remedy="Set config.output_router_logits = False to train without the router's term.",
    )  # fmt: skip


def reads_whole_rows(model: nn.Module) -> bool:
    """Whether what an adapter does to a token depends on tokens of its row behind any attention mask: aLoRA's call."""
    return any(getattr(config, "alora_invocation_tokens", None) for config in _adapters(model))


def refuse_unweighable(model: nn.Module) -> None:
    """Errors: SamplewiseError naming a model whose sample losses cannot be computed correctly in any way."""
    for config in _adapters(model):
        kind = str(getattr(config.peft_type, "value", config.peft_type))
        if config.is_prompt_learning and kind not in ("PREFIX_TUNING", "CARTRIDGE"):
            raise SamplewiseError(
                "model", expected="adapters that add no tokens to a row", got=f"prompt learning ({kind}), whose "
                "virtual tokens stand before the row and predict its first token",
                remedy=ALTERNATIVES,
            )  # fmt: skip
        if kind == "LILY":
            raise SamplewiseError(
                "model", expected="adapters that do to a row what they would do to it alone",
                got=f"{kind}, which mixes its experts by their mean over all tokens of a micro-batch, padding included",
                remedy=ALTERNATIVES,
            )  # fmt: skip
        if getattr(config, "auxiliary_loss_weight", 0) > 0:
            raise SamplewiseError(
                "model", expected="adapters without a token loss of their own",
                got=f"{kind}, which adds the loss of a second, unweighted model",
                remedy="Set auxiliary_loss_weight=0 in its config to train without it.",
            )  # fmt: skip
    if (getattr(getattr(model, "module", model), "z_loss_coefficient", 0) or 0) > 0:  # Bamba
        raise SamplewiseError(
            "model", expected="a loss of the tokens alone, or a router's term", got="z_loss_coefficient > 0",
            remedy="Set model.z_loss_coefficient = 0 to train without that term, which needs all logits.",
        )  # fmt: skip


def refuse_term_from_logits(model: nn.Module) -> None:
    """Errors: SamplewiseError where the logits path would leave an adapter's own term out."""
    if has_adapter_term(model):
        raise SamplewiseError(
            "model", expected="an adapter without a loss term of its own, where losses come from logits",
            got="AdaLoRA with orth_reg_weight > 0",
            remedy="Leave the head out of target_modules, so that no logits are needed; or orth_reg_weight=0.",
        )  # fmt: skip


def _adapters(model: nn.Module) -> list[Any]:
    """The configs of the model's active adapters."""
    inner: Any = getattr(model, "module", model)
    configs = getattr(inner, "peft_config", None)
    if not configs or not hasattr(inner, "base_model"):
        return []
    names: Any = getattr(inner, "active_adapters", None) or getattr(inner, "active_adapter", None)
    names = names() if callable(names) else names
    return [configs[name] for name in ([names] if isinstance(names, str) else names or configs) if name in configs]

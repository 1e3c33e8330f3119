"""What a model's config says that a step must know."""

from __future__ import annotations

from typing import Any

from torch import nn


def has_own_term(model: nn.Module) -> bool:
    """Whether the model adds a term of its own to its loss: a router's load balancing."""
    return bool(getattr(text_config(model), "output_router_logits", False))


def has_dropout(model: nn.Module) -> bool:
    """Whether the config asks for dropout anywhere."""
    values = vars(text_config(model)) if text_config(model) is not None else {}
    return any(("dropout" in k or "pdrop" in k) and isinstance(v, float) and v > 0 for k, v in values.items())


def text_config(model: nn.Module) -> Any:
    """The config of the language model within a model, None where it has none."""
    config: Any = getattr(getattr(model, "module", model), "config", None)
    return config.get_text_config() if hasattr(config, "get_text_config") else config

"""What a model's config says that a step must know."""

from __future__ import annotations

from torch import nn

from samplewise.losses.own_terms import text_config


def has_dropout(model: nn.Module) -> bool:
    """Whether the model's config sets any dropout rate above 0."""
    config = text_config(model)
    values = {} if config is None else vars(config)
    return any(("dropout" in k or "pdrop" in k) and isinstance(v, float) and v > 0 for k, v in values.items())

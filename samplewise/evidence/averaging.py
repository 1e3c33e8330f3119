"""Weights between two models: a share of the trained one's, the rest of the one that it started from."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import nn


@contextmanager
def averaged(model: nn.Module, start: nn.Module, share: float) -> Iterator[None]:
    """Inside, the parameters of `model` are share·own + (1 − share)·those of `start`; after it its own again.

    Cost: a copy of the parameters. Source: WiSE-FT (Wortsman et al., arXiv 2109.01903).
    """
    own = {name: parameter.detach().clone() for name, parameter in model.named_parameters()}
    others = dict(start.named_parameters())
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            parameter.lerp_(others[name].to(parameter.device, parameter.dtype), 1 - share)
    try:
        yield
    finally:
        with torch.no_grad():
            for name, parameter in model.named_parameters():
                parameter.copy_(own[name])

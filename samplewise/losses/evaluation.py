"""Sample losses without gradient, for planning: eval mode, and not one draw from any global generator."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn


@contextmanager
def scoring(model: nn.Module) -> Iterator[None]:
    """Eval mode and no gradient inside; every module's own mode and the global random state as before after it."""
    modes = {module: module.training for module in model.modules()}
    devices = sorted({p.device.index for p in model.parameters() if p.device.type == "cuda"} - {None})
    try:
        model.eval()
        with torch.no_grad(), torch.random.fork_rng(devices=devices):
            yield
    finally:
        for module, mode in modes.items():
            module.training = mode


def score(
    model: nn.Module, batches: Iterable[dict[str, Tensor]], losses: Callable[..., tuple[Tensor, Tensor]]
) -> tuple[Tensor, Tensor]:
    """[rows] losses and token counts of all rows, micro-batch after micro-batch.

    losses: (model, batch) -> ([B] losses, [B] counts).
    """
    with scoring(model):
        pairs = [losses(model, batch) for batch in batches]
    return torch.cat([loss for loss, _ in pairs]), torch.cat([tokens for _, tokens in pairs])

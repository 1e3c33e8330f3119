"""Micro-batches for the kernels: random, with -100 rows, a half-masked row and segments."""

from __future__ import annotations

from typing import Any, NamedTuple

import torch
from torch import Tensor


class Micro(NamedTuple):
    hidden: Tensor
    head: Tensor
    labels: Tensor
    bias: Tensor
    factors: Tensor

    def to(self, dtype: torch.dtype) -> Micro:
        """Floating tensors as fresh leaves of `dtype`; factors stay."""
        leaves = [x.detach().to(dtype).requires_grad_() for x in (self.hidden, self.head, self.bias)]
        return Micro(leaves[0], leaves[1], self.labels, leaves[2], self.factors)


def make_micro(
    rows: int = 5, length: int = 11, size: int = 8, vocabulary: int = 37, seed: int = 0, spread: float = 1.0
) -> Micro:
    g = torch.Generator().manual_seed(seed)

    def normal(*shape: int) -> Tensor:
        return torch.randn(*shape, generator=g, dtype=torch.float64)

    labels = torch.randint(vocabulary, (rows, length), generator=g)
    labels[1] = -100
    labels[2, : length // 2] = -100
    factors = torch.rand(rows, generator=g, dtype=torch.float64) * 3
    factors[0] = 0
    return Micro(normal(rows, length, size), normal(vocabulary, size) * spread, labels, normal(vocabulary), factors)


def run(micro: Micro, objective: Any, upstream: float = 1.0, **options: Any) -> dict[str, Tensor]:
    """One backward through `objective(value)`; every outcome by name, the gradients of a fresh copy."""
    out = objective(micro.hidden, micro.head, micro.labels, options.pop("factors", micro.factors), **options)
    (out.value * upstream).backward()
    grads = {"hidden": micro.hidden.grad, "head": micro.head.grad, "bias": micro.bias.grad}
    values = {"value": out.value.detach(), "loss": out.loss.detach(), "factors": out.factors}
    return {**values, **{k: g for k, g in grads.items() if g is not None}}


def error(got: dict[str, Tensor], want: dict[str, Tensor]) -> dict[str, float]:
    """Relative Euclidean error of every outcome."""
    assert got.keys() == want.keys()
    return {k: float((got[k].double() - want[k].double()).norm() / want[k].double().norm()) for k in want}

"""Where the gradients of a micro-batch gather, in fp32 or wider, until they meet the upstream scalar."""

from __future__ import annotations

import torch
from torch import Tensor

from samplewise.losses.kernels import products
from samplewise.losses.kernels.residual import Head, block_bytes


class HeadGradient:
    """Σ residualᵀ·hidden over chunks: weight [V, D] and bias [V] where they are wanted.

    One buffer of the head's size, not zeroed: the first chunk writes, the others add.
    """

    def __init__(self, head: Head, weight: bool, bias: bool) -> None:
        self.head, self.empty = head, True
        self.weight = torch.empty_like(head.weight, dtype=head.wide) if weight else None
        self.bias = torch.zeros(head.weight.shape[0], dtype=head.wide, device=head.weight.device) if bias else None

    def add(self, residual: Tensor, hidden: Tensor, coefficient: Tensor) -> None:
        """residual [c, V] of this head, hidden·scale [c, D], coefficient [c] of its tokens.

        The coefficient goes into hidden, of D columns, not into the residual, of V; both are rounded once, together.
        """
        if self.weight is not None:
            size = _size(coefficient, residual.dtype)
            weighted = (hidden.to(self.head.wide) * (coefficient / size)[:, None]).to(residual.dtype)
            self._add_weight(self.weight, residual, weighted, size / self.head.gain)
        if self.bias is not None:
            self._add_bias(self.bias, residual, coefficient * (self.head.scale / self.head.gain))
        self.empty = False

    def _add_bias(self, out: Tensor, residual: Tensor, coefficient: Tensor) -> None:
        step = max(1, block_bytes(out.device) // (len(residual) * out.dtype.itemsize))
        for i in range(0, len(out), step):
            out[i : i + step] += coefficient @ residual[:, i : i + step].to(out.dtype)

    def _add_weight(self, out: Tensor, residual: Tensor, weighted: Tensor, size: Tensor | float) -> None:
        if residual.dtype == out.dtype:
            torch.mm(residual.t(), weighted, out=out) if self.empty else out.addmm_(residual.t(), weighted)
            return
        if residual.dtype == torch.bfloat16 and products.has_wide(
            residual
        ):  # coefficients of fp16 are apart, in `size`
            products.add_wide_(out, residual.t(), weighted, self.empty)
            return
        # The product comes in the narrow dtype: a tile of it at a time meets the wide buffer, still in the cache. At
        # 512 bf16 rows 184 ms per 1,016 positions, against 283 for one product of the head's size and then one sum.
        step = max(1, block_bytes(out.device) // (out.shape[1] * residual.dtype.itemsize))
        for i in range(0, out.shape[0], step):
            tile = torch.mm(residual[:, i : i + step].t(), weighted)
            if residual.dtype == torch.float16:
                tile = tile.to(out.dtype).mul_(size)
            out[i : i + step].copy_(tile) if self.empty else out[i : i + step].add_(tile)

    def merge(self, other: HeadGradient, factor: Tensor) -> None:
        """self += factor [] · other, where self is not empty."""
        for mine, theirs in ((self.weight, other.weight), (self.bias, other.bias)):
            if mine is not None and theirs is not None:
                mine.addcmul_(theirs, factor)

    def scale_(self, factor: Tensor) -> None:
        """Multiply everything gathered so far, all of it finite, by factor []."""
        for part in (self.weight, self.bias):
            if part is not None:
                part.mul_(factor)

    def finish(self) -> tuple[Tensor | None, Tensor | None]:
        """(weight, bias), zero where no chunk had anything to add."""
        if self.empty and self.weight is not None:
            self.weight.zero_()
        return self.weight, self.bias


def _size(coefficient: Tensor, dtype: torch.dtype) -> Tensor | float:
    """What to divide coefficients by before a product in `dtype`: only fp16, which holds neither 1e-8 nor 1e5."""
    if dtype != torch.float16:
        return 1.0
    total = coefficient.abs().sum()
    return torch.where(total > 0, total, torch.ones_like(total))

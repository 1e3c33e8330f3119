"""`residual_` of a chunk in one Triton kernel: two reads and one write of its logits, no fp32 copy.

One program a row. The first read finds the largest logit, the sum of exponentials and, where asked for, the entropy and
the largest logit's place, all in fp32 and online; the second turns the same memory into (p − one-hot)·slope·gain.
Runs on a CPU under TRITON_INTERPRET=1, which is how it is tested; its speed on a GPU has not been measured here.
"""

from __future__ import annotations

import torch
import triton  # pyright: ignore[reportMissingImports]
import triton.language as tl  # pyright: ignore[reportMissingImports]
from torch import Tensor

from samplewise.losses.kernels.residual import Head

MAX_BLOCK = 8192
"""Logits of a row that a program holds at once: 32 KiB in fp32. Larger blocks spill registers."""


def residual_(
    head: Head, logits: Tensor, label: Tensor, gradient: bool, tally: Tensor | None = None, clean: bool = True
) -> Tensor:
    """Token losses [c]; with `gradient`, `logits` [c, V] becomes (p − one-hot)·slope·gain, otherwise it is kept.

    The arguments are those of `residual.residual_`; `clean` costs nothing here, and is always done.
    """
    loss = torch.empty(len(label), dtype=head.wide, device=logits.device)
    if not len(label):
        return loss
    vocabulary = logits.shape[1]
    block = min(MAX_BLOCK, triton.next_power_of_2(vocabulary))
    _residual[(len(label),)](  # pyright: ignore[reportIndexIssue]
        logits, logits.stride(0), label, loss, loss if tally is None else tally,
        0 if tally is None else tally.stride(0), head.softcap or 1.0, head.gain,
        V=vocabulary, BLOCK=block, CAPPED=head.softcap is not None, GRADIENT=gradient, TALLY=tally is not None,
        num_warps=min(32, max(4, block // 256)),
    )  # fmt: skip
    return loss


@triton.jit
def _tanh(x):  # by exponentials; near 0, where they cancel, by its series (relative error 1e-9 at 1/8)
    e = tl.exp(-2.0 * tl.abs(x))
    far = tl.where(x < 0, e - 1.0, 1.0 - e) / (1.0 + e)
    square = x * x
    near = x * (1.0 - square * (1.0 / 3.0 - square * (2.0 / 15.0 - square * (17.0 / 315.0))))
    return tl.where(tl.abs(x) < 0.125, near, far)


@triton.jit
def _read(logits, start, cap, V: tl.constexpr, BLOCK: tl.constexpr, CAPPED: tl.constexpr):
    """A block of one row in fp32, soft-capped; −inf beyond the vocabulary. And its offsets."""
    offset = start + tl.arange(0, BLOCK)
    z = tl.load(logits + offset, mask=offset < V, other=0.0).to(tl.float32)
    if CAPPED:
        z = cap * _tanh(z / cap)
    return tl.where(offset < V, z, -float("inf")), offset


@triton.jit
def _residual(
    logits, stride, label, loss, tally, tally_stride, cap, gain,
    V: tl.constexpr, BLOCK: tl.constexpr, CAPPED: tl.constexpr, GRADIENT: tl.constexpr, TALLY: tl.constexpr,
):  # fmt: skip
    row = tl.program_id(0).to(tl.int64)
    logits += row * stride
    target = tl.load(label + row)
    largest, total, spread, place = -float("inf"), 0.0, 0.0, 0  # Σ exp(z − largest), Σ exp(z − largest)·(z − largest)
    for start in range(0, V, BLOCK):
        z, _ = _read(logits, start, cap, V, BLOCK, CAPPED)
        top = tl.max(z, 0)
        if TALLY:
            place = tl.where(top > largest, start + tl.argmax(z, 0), place)
        new = tl.maximum(largest, top)
        shift = tl.where(new == -float("inf"), 0.0, new)  # so far only −inf: exp(z − shift) is 0, not exp(NaN)
        by = tl.where(largest == -float("inf"), 0.0, largest - shift)
        scale = tl.where(largest == -float("inf"), 0.0, tl.exp(by))
        e = tl.exp(z - shift)
        if TALLY:
            spread = scale * (spread + total * by) + tl.sum(tl.where(e > 0, e * (z - shift), 0.0), 0)
        total = scale * total + tl.sum(e, 0)
        largest = new
    own = tl.load(logits + target).to(tl.float32)
    if CAPPED:
        own = cap * _tanh(own / cap)
    lost = tl.log(total) + (largest - own)  # ≥ 0; the difference is exact where both are near
    tl.store(loss + row, lost)
    if TALLY:
        tl.store(tally + row, tl.maximum(tl.log(total) - spread / total, 0.0))
        tl.store(tally + tally_stride + row, (place == target).to(tl.float32))
    if GRADIENT:
        for start in range(0, V, BLOCK):
            z, offset = _read(logits, start, cap, V, BLOCK, CAPPED)
            p = tl.exp(z - largest) / total
            p = tl.where(offset == target, -_minus_expm1(-lost), p)
            if CAPPED:
                t = z / cap
                p *= 1.0 - t * t
            p = tl.where(tl.abs(lost) < float("inf"), p, 0.0)  # and NaN: neither is below
            tl.store(logits + offset, (p * gain).to(logits.dtype.element_ty), mask=offset < V)


@triton.jit
def _minus_expm1(x):  # 1 − exp(x); for small |x| by its series, so that p(label) − 1 keeps its digits near 0
    near = -x * (1.0 + x * (0.5 + x * (1.0 / 6.0 + x * (1.0 / 24.0 + x * (1.0 / 120.0)))))
    return tl.where(tl.abs(x) < 0.125, near, 1.0 - tl.exp(x))

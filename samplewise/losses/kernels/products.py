"""Products of 16-bit matrices that come in fp32, where torch has them: what chunks sum up is not rounded before.

torch has them on CUDA alone; elsewhere a product has the dtype of its inputs. Only their use is tested here, with
products of one's own in their place: their speed was not measured.
"""

from __future__ import annotations

import torch
from torch import Tensor


def has_wide(like: Tensor) -> bool:
    """Whether products of matrices of this device and dtype can come in fp32."""
    return like.device.type == "cuda" and like.dtype in (torch.bfloat16, torch.float16)


def wide(a: Tensor, b: Tensor) -> Tensor:
    """[m, n] a·b in fp32, of 16-bit a [m, k] and b [k, n]."""
    return torch.mm(a, b, out_dtype=torch.float32)


def add_wide_(out: Tensor, a: Tensor, b: Tensor, empty: bool) -> None:
    """out += a·b in fp32, in one pass over `out`; `empty`: out = a·b."""
    if empty:
        torch.mm(a, b, out_dtype=torch.float32, out=out)
    else:
        torch.addmm(out, a, b, out_dtype=torch.float32, out=out)

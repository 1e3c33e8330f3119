"""Liger's fused linear cross-entropy: token losses that take any upstream gradient, recomputed in backward.

BSD 2-clause, not part of this package: `pip install 'samplewise[liger]'`. Before 0.8.2 its gradients with
reduction="none" left the upstream gradient out, and were wrong by as much as they are large: these are refused.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from importlib.metadata import PackageNotFoundError, version
from typing import Any

import torch
from torch import Tensor

from samplewise.core.errors import SamplewiseError, missing_extra
from samplewise.losses.kernels.autograd import matmul_dtype
from samplewise.losses.kernels.backends import can_launch
from samplewise.losses.kernels.inputs import Inputs
from samplewise.losses.kernels.targets import Targets
from samplewise.losses.kernels.torch_backend import sample_losses

PACKAGE, MIN_VERSION = "liger-kernel", (0, 8, 2)
ELSE = 'Use backend="chunked".'


def losses(inputs: Inputs, targets: Targets) -> tuple[Tensor, Tensor]:
    """[n] losses, nats/token, and the [P] token losses without history, in fp32.

    Products are in the dtype that F.linear would take here, statistics and the head's gradient in fp32. Four products
    of the head's size, where "chunked" takes three, and two waits for the device. A loss that is not finite makes the
    head's gradient NaN, even where its factor is 0.
    Errors: SamplewiseError without Liger 0.8.2 or newer, off CUDA, in fp64, with a soft cap (which could not be
    tested: Triton's interpreter does not run it), and for a budget of a chunk, which Liger sets itself.
    """
    loss = _loss(inputs)
    wide, dtype = inputs.loss_dtype, matmul_dtype(inputs)
    with torch.autocast(inputs.hidden.device.type, enabled=False):
        hidden = inputs.hidden.reshape(-1, inputs.hidden.shape[2])[targets.position]
        hidden = (hidden if inputs.scale == 1 else hidden.to(wide) * inputs.scale).to(dtype)
        bias = None if inputs.bias is None else (inputs.bias.to(wide) * inputs.scale).to(dtype)
        token = loss(inputs.head.to(dtype), hidden, targets.label, bias)
    return sample_losses(targets, token, wide), token.detach()


def _loss(inputs: Inputs) -> Callable[..., Any]:
    """Liger's module, once everything that it cannot do is ruled out."""
    try:
        found = version(PACKAGE)
    except PackageNotFoundError:
        raise missing_extra(PACKAGE, "liger", 'backend="liger"') from None
    if tuple(int(part) for part in re.findall(r"\d+", found)[:3]) < MIN_VERSION:
        needed = ".".join(map(str, MIN_VERSION))
        raise _refused("backend", f"{PACKAGE} {needed} or newer, whose gradients hold factors", f"{PACKAGE} {found}")
    device = inputs.hidden.device
    if not can_launch(device):
        raise _refused("backend", "a CUDA device for 'liger'", str(device))
    if inputs.loss_dtype == torch.float64:
        raise _refused("hidden", "fp32 or 16 bits with backend='liger'", "fp64")
    for name in ("softcap", "chunk_bytes"):
        if getattr(inputs, name) is not None:
            raise _refused(name, "None with backend='liger'", str(getattr(inputs, name)))
    from liger_kernel.transformers.fused_linear_cross_entropy import (  # pyright: ignore[reportMissingImports]
        LigerFusedLinearCrossEntropyLoss,
    )

    return LigerFusedLinearCrossEntropyLoss(reduction="none", accum_dtype=torch.float32)


def _refused(argument: str, expected: str, got: str) -> SamplewiseError:
    return SamplewiseError(argument, expected=expected, got=got, remedy=ELSE)

"""torch's own linear_cross_entropy: losses that take any upstream gradient, recomputed in backward."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from samplewise.core.errors import SamplewiseError
from samplewise.losses.kernels.inputs import Inputs
from samplewise.losses.kernels.plan import rows_per_chunk
from samplewise.losses.kernels.targets import Targets

OPTIONS = getattr(torch.nn, "LinearCrossEntropyOptions", None)
"""Sets the chunk size; None before torch 2.13."""


def losses(inputs: Inputs, targets: Targets) -> tuple[Tensor, Tensor]:
    """[n] losses, nats/token, and the [P] token losses without history, in fp32 or wider.

    Products are in fp32 even under autocast: torch returns losses in the dtype of its inputs, and a loss of 10 nats in
    bf16 is right to 0.03. Its automatic chunk size is several times slower than ours on a CPU, so it is set.
    """
    if OPTIONS is None:
        raise SamplewiseError(
            "backend", expected='"chunked" or "reference" before torch 2.13', got=f"'torch' in {torch.__version__}",
            remedy='Use backend="chunked", which runs on every torch, or a newer torch.',
        )  # fmt: skip
    if inputs.softcap is not None:
        raise SamplewiseError(
            "softcap", expected='None with backend="torch", whose kernel has no soft cap', got=inputs.softcap,
            remedy='Use backend="chunked".',
        )  # fmt: skip
    wide = inputs.loss_dtype
    with torch.autocast(inputs.hidden.device.type, enabled=False):
        hidden = inputs.hidden.reshape(-1, inputs.hidden.shape[2])[targets.position].to(wide) * inputs.scale
        bias = None if inputs.bias is None else inputs.bias.to(wide) * inputs.scale
        rows = rows_per_chunk(inputs.chunk_bytes, inputs.head.shape[0], wide, hidden.device)
        options = OPTIONS(batch_chunk_size=rows, chunking_method=None)
        token = F.linear_cross_entropy(
            hidden, inputs.head.to(wide), targets.label, linear_bias=bias, reduction="none", options=options
        )
    return sample_losses(targets, token, wide), token.detach()


def sample_losses(targets: Targets, token: Tensor, wide: torch.dtype) -> Tensor:
    """[n] from token losses [P], differentiable; summed in the dtype of the losses."""
    part = targets.weighed(token).to(wide)
    total = token.new_zeros(len(targets.tokens), dtype=wide).index_add(0, targets.sample, part)
    return (total / targets.divisor).to(wide)

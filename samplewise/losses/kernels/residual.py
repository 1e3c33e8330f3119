"""Logits of one chunk -> token losses, and the same memory turned into p − one-hot, the gradient of the loss."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from samplewise.losses.kernels.tally import tallied

# Rows are turned in blocks whose fp32 copy stays in the cache: 31 ms for 1,016 rows of 49,152 in bf16, against 41 for
# whole chunks and 134 for two rows at a time. On accelerators a launch costs more than a miss; there not measured.
CPU_BLOCK_BYTES = 4 * 2**20
ACCELERATOR_BLOCK_BYTES = 64 * 2**20
# fp16 keeps probabilities below 6e-5 with fewer digits and none below 6e-8: p is stored times this, and divided later.
# Larger would overflow sums of p·hidden for hidden states above 256.
FP16_GAIN = 256.0


def block_bytes(device: torch.device) -> int:
    """How much working memory an element-wise pass may touch at once."""
    return CPU_BLOCK_BYTES if device.type == "cpu" else ACCELERATOR_BLOCK_BYTES


@dataclass(frozen=True)
class Head:
    """The head in the dtype of its matrix products, and its wide dtype for everything else.

    weight [V, D]; bias [V] or None, multiplied by the logit scale already, as the hidden states are that come in.
    """

    weight: Tensor
    bias: Tensor | None
    softcap: float | None
    scale: float
    wide: torch.dtype

    @property
    def gain(self) -> float:
        """What the residual is multiplied by where it is stored."""
        return FP16_GAIN if self.weight.dtype == torch.float16 else 1.0

    def logits(self, hidden: Tensor, out: Tensor | None = None) -> Tensor:
        """[c, V] before the soft cap, from hidden [c, D]."""
        if self.bias is None:
            return torch.mm(hidden, self.weight.t(), out=out)
        return torch.addmm(self.bias, hidden, self.weight.t(), out=out)

    def cap_(self, z: Tensor) -> Tensor | None:
        """Soft-cap `z` in place; returns d capped / d z, or None without a cap."""
        if self.softcap is None:
            return None
        z.div_(self.softcap).tanh_()
        slope = torch.addcmul(z.new_ones(()), z, z, value=-1)
        z.mul_(self.softcap)
        return slope


def residual_(
    head: Head, logits: Tensor, label: Tensor, gradient: bool, tally: Tensor | None = None, clean: bool = True
) -> Tensor:
    """Token losses [c]; with `gradient`, `logits` [c, V] becomes (p − one-hot)·slope·gain, otherwise rubbish.

    tally: [2, c] to be filled with each token's entropy and correctness. clean: rows whose loss is not finite become 0.
    """
    loss = torch.empty(len(label), dtype=head.wide, device=logits.device)
    step = max(1, block_bytes(logits.device) // (logits.shape[1] * head.wide.itemsize))
    scratch = None if logits.dtype == head.wide else torch.empty_like(logits[:step], dtype=head.wide)
    for i in range(0, len(label), step):
        block, y = logits[i : i + step], label[i : i + step]
        z = block if scratch is None else scratch[: len(block)].copy_(block)
        own = None if tally is None else tally[:, i : i + step]
        slope = head.cap_(z)
        part = loss[i : i + step] = _probabilities_(z, y, gradient, own)
        if gradient:
            _residual_(z, y, part, slope, clean)
        if scratch is not None and gradient:
            torch.mul(z, head.gain, out=block) if head.gain != 1 else block.copy_(z)
    return loss


def _probabilities_(z: Tensor, label: Tensor, gradient: bool, tally: Tensor | None) -> Tensor:
    """Losses of the rows of `z`, which become probabilities where these are needed.

    By log_softmax, which is right for every loss: read from a softmax, those above 69 nats would be denormal, and to
    ask whether there are any would wait for the device. 21 rows of 49,152 take 0.77 ms so, 0.54 by softmax alone.
    """
    raw = None if tally is None else z.clone()
    torch.log_softmax(z, -1, out=z)
    loss = -z[torch.arange(len(label), device=z.device), label]
    if gradient or tally is not None:
        z.exp_()
    if tally is not None and raw is not None:
        tally.copy_(tallied(raw, z, label))
    return loss


def _residual_(z: Tensor, label: Tensor, loss: Tensor, slope: Tensor | None, clean: bool) -> None:
    """Probabilities to p − one-hot; p(label) − 1 = expm1(−loss) keeps its digits near 1."""
    z[torch.arange(len(label), device=z.device), label] = torch.expm1(-loss)
    if slope is not None:
        z.mul_(slope)
    if clean:
        z.masked_fill_(~loss.isfinite()[:, None], 0.0)  # 0·NaN would poison the whole head, were the row left out

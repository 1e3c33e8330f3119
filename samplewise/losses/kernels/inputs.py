"""What every backend takes, checked once at the border, so that the arithmetic behind it needs no checks."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from samplewise.core.errors import SamplewiseError
from samplewise.core.host import host
from samplewise.core.token_rule import TokenRule
from samplewise.losses.kernels.tally import Tally
from samplewise.losses.kernels.vocabulary import Shard
from samplewise.losses.token_losses import check_token_weights

Factor = Callable[[Tensor, Tensor, Tensor], Tensor]
"""`factor(loss [k], tokens [k], index [k]) -> [k]` of complete samples; index is their number in the micro-batch."""

Select = Callable[[Tensor, "Tensor | None", Tensor], Tensor]
"""`select(loss [c], reference [c] or None, sample [c]) -> [c]`: the weights of all predicted tokens of some samples."""


@dataclass(frozen=True)
class Inputs:
    """One micro-batch at the door of the head.

    hidden [B, T, D], head [V, D], labels, segments, token_weights, reference [B, T], bias [V]; logits are
    softcap·tanh((hidden·headᵀ + bias)·scale / softcap), without the cap where softcap is None. shard: which rows of the
    vocabulary head and bias are; None: all.
    """

    hidden: Tensor
    head: Tensor
    labels: Tensor
    bias: Tensor | None = None
    segments: Tensor | None = None
    token_weights: Tensor | None = None
    softcap: float | None = None
    scale: float = 1.0
    shifted: bool = False
    chunk_bytes: int | None = None
    select: Select | None = None
    reference: Tensor | None = None
    tally: Tally | None = None
    backend: str = "chunked"
    refuse_nan: bool = True
    shard: Shard | None = None

    @property
    def vocabulary(self) -> int:
        """V of the whole head."""
        return self.head.shape[0] if self.shard is None else self.shard.vocabulary

    @property
    def loss_dtype(self) -> torch.dtype:
        """The dtype of the losses: at least fp32; fp64 stays fp64."""
        return torch.promote_types(torch.promote_types(self.hidden.dtype, self.head.dtype), torch.float32)

    @property
    def reweighs(self) -> bool:
        """Whether `select` leaves losses as they are, and changes what tokens count in the objective."""
        return isinstance(self.select, TokenRule) and self.select.reweighs

    @property
    def selects(self) -> bool:
        """Whether `select` changes the losses, and so the factors that follow from them."""
        return self.select is not None and not self.reweighs

    @property
    def pointwise(self) -> bool:
        """Whether `select` looks at one token at a time, so that it may be called with any; or there is none."""
        return self.select is None or (isinstance(self.select, TokenRule) and self.select.pointwise)

    @property
    def wants_gradient(self) -> bool:
        """Whether autograd is on and anything that it could reach asks for a gradient."""
        tensors = [x for x in (self.hidden, self.head, self.bias) if x is not None]
        return torch.is_grad_enabled() and any(x.requires_grad for x in tensors)

    def check(self) -> None:
        """Raise SamplewiseError where shapes do not fit, with the shapes and the remedy."""
        if self.hidden.dim() != 3 or self.head.dim() != 2 or self.hidden.shape[2] != self.head.shape[1]:
            raise SamplewiseError(
                "hidden", expected="hidden [B, T, D] and head [V, D] of one D",
                got=f"hidden {tuple(self.hidden.shape)} and head {tuple(self.head.shape)}",
                remedy="Pass the last hidden states and the output embedding of the same model.",
            )  # fmt: skip
        rows, vocabulary = tuple(self.hidden.shape[:2]), self.head.shape[0]
        _check_integers("labels", self.labels, rows)
        if self.segments is not None:
            _check_integers("segments", self.segments, rows)
        if self.token_weights is not None:
            check_token_weights(self.token_weights, rows)
        if self.reference is not None and (self.select is None or tuple(self.reference.shape) != rows):
            raise SamplewiseError(
                "reference", expected=f"token losses in labels' shape {rows}, for `select`",
                got=f"{tuple(self.reference.shape)}{'' if self.select else ', and no select'}",
                remedy="Give the loss of every label under the reference model, 0 where nothing is predicted.",
            )  # fmt: skip
        if self.bias is not None and tuple(self.bias.shape) != (vocabulary,):
            raise SamplewiseError(
                "bias", expected=f"shape ({vocabulary},), one a row of the head", got=tuple(self.bias.shape),
                remedy="Pass the bias of the same head.",
            )  # fmt: skip
        if self.shard is not None and not vocabulary:
            raise SamplewiseError(
                "shard", expected="a row of the head for every rank", got=f"none of {self.shard.vocabulary}",
                remedy="Split the head over fewer ranks.",
            )  # fmt: skip
        for name, value in (("softcap", self.softcap), ("chunk_bytes", self.chunk_bytes)):
            if value is not None and not value > 0:
                raise SamplewiseError(
                    name, expected="a positive number or None", got=value, remedy="Use None to disable it."
                )


def _check_integers(name: str, tensor: Tensor, shape: tuple[int, ...]) -> None:
    if tuple(tensor.shape) != shape or tensor.is_floating_point():
        raise SamplewiseError(
            name, expected=f"integers of hidden's shape [B, T] = {shape}", got=f"{tensor.dtype} {tuple(tensor.shape)}",
            remedy="Give one for every position: unshifted labels with -100 where nothing is predicted, segments -1.",
        )  # fmt: skip


def check_factors(factors: Tensor, shape: tuple[int, ...], loss: Tensor | None = None) -> Tensor:
    """`factors` as at least fp32 without history; NaN is allowed only where the sample's own loss is not finite."""
    wide = wide_factors(factors, shape, None if loss is None else loss.device)
    refuse_nan(wide, loss)
    return wide


def wide_factors(factors: Tensor, shape: tuple[int, ...], device: torch.device | None = None) -> Tensor:
    """`factors` as at least fp32 without history. Errors: SamplewiseError on another shape."""
    factors = torch.as_tensor(factors, device=device).detach()
    if tuple(factors.shape) != shape:
        raise SamplewiseError(
            "factors", expected=f"shape {shape}, one a sample", got=tuple(factors.shape),
            remedy="Samples are the rows of hidden, or the segments 0..max(segments).",
        )  # fmt: skip
    return factors.to(
        torch.promote_types(factors.dtype, torch.float32) if factors.is_floating_point() else torch.float32
    )


def refuse_nan(wide: Tensor, loss: Tensor | None = None) -> None:
    """Errors: SamplewiseError where a factor is NaN and the sample's loss is finite. Waits for the device."""
    bad = wide.isnan() if loss is None else wide.isnan() & loss.isfinite()
    if host(bad).any():
        raise SamplewiseError(
            "factors", expected="numbers",
            got=f"{wide[bad][:3].tolist()} at {bad.nonzero()[:3, 0].tolist()}",
            remedy="A factor is an unnormalized weight; leave a sample out with 0.",
        )  # fmt: skip

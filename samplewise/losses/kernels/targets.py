"""Which positions are predicted, what they predict and whose they are: found once, on the host, before any product.

The host finds them with numpy, so that no kernel waits for the device; labels that lie on a device are fetched once.

Shapes: B rows, T positions, V vocabulary, P predicted positions, n samples of the micro-batch.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor

from samplewise.core.errors import SamplewiseError
from samplewise.core.host import exact_dtype, host, on_device, positions, wide
from samplewise.losses.token_losses import IGNORED, check_token_weights


@dataclass(frozen=True)
class Targets:
    """The P predicted positions of a micro-batch, sample by sample.

    position: [P] index into the B·T flattened positions.
    label: [P] the token that the position predicts.
    sample: [P] ascending, the sample it belongs to.
    tokens: [n] int64, predicted tokens of every sample; the P are theirs, in order.
    weight: [P] fp64: what the token counts within its sample; None: 1 each.
    mass: [n] a sample's Σ weight, what its loss is divided by; its tokens where weight is None.
    counts: [n] how many of the P positions each sample has, on the host; a selection does not change them.
    ahead: how far its label stands after a position: 1, or 0 where labels are shifted.
    """

    position: Tensor
    label: Tensor
    sample: Tensor
    tokens: Tensor
    weight: Tensor | None
    mass: Tensor
    counts: np.ndarray
    ahead: int

    def __len__(self) -> int:
        return self.position.numel()

    def reorder(self, order: Tensor) -> Targets:
        """The same positions in another order; `sample` ascends no longer, and `counts` are of no use."""
        weight = None if self.weight is None else self.weight[order]
        return replace(
            self, position=self.position[order], label=self.label[order], sample=self.sample[order], weight=weight
        )

    def means(self, token_loss: Tensor, first: int = 0, stop: int | None = None) -> Tensor:
        """[stop − first] Σ m·loss / Σ m of samples first..stop-1, from the token losses [P] of all.

        Summed in fp64: a plain fp32 sum of 4,096 tokens is off by more than the softmax. A sum by segments of what is
        sorted by sample, not an index_add, whose order CUDA does not fix.
        """
        stop = len(self.counts) if stop is None else stop
        start, end = int(self.counts[:first].sum()), int(self.counts[:stop].sum())
        part = self.weighed(token_loss[start:end].to(exact_dtype(token_loss.device)), start, end)
        return (self.summed(part, first, stop) / self.divisor[first:stop]).to(token_loss.dtype)

    def summed(self, part: Tensor, first: int = 0, stop: int | None = None) -> Tensor:
        """[stop − first] sums of `part`, what the positions of samples first..stop-1 have."""
        lengths = on_device(self.counts[first:stop], part.device)
        return torch.segment_reduce(part, "sum", lengths=lengths, unsafe=True)  # unsafe: lengths are not read back

    def weighed(self, token_loss: Tensor, start: int = 0, end: int | None = None) -> Tensor:
        """[c] m·loss of positions start..end-1, 0 where m is, whatever the loss."""
        if self.weight is None:
            return token_loss
        weight = self.weight[start:end]
        return torch.where(weight == 0, 0, token_loss * weight)

    def shares(self, values: Tensor, start: int = 0, end: int | None = None) -> Tensor:
        """[c] what each of positions start..end-1 has of its sample's value [n]: value·m / Σ m."""
        each = (values / self.divisor)[self.sample[start:end]]
        return each if self.weight is None else (each * self.weight[start:end]).to(values.dtype)

    def times(self, weight: Tensor, start: int, end: int) -> Targets:
        """The same targets, positions start..end-1 of which count `weight` [c] times what they did."""
        new = self.position.new_ones(len(self), dtype=weight.dtype) if self.weight is None else self.weight.clone()
        new[start:end] *= weight
        there = self.summed((new > 0).to(new.dtype))
        return replace(self, weight=new, tokens=there.to(torch.int64), mass=self.summed(new))

    def present(self) -> Targets:
        """Without the positions of weight 0."""
        return self if self.weight is None else self.reorder(positions(self.weight > 0))

    def given(self, values: Tensor) -> Tensor:
        """[P] what `values` [B, T], aligned with the labels, hold for the targets."""
        return values.reshape(-1)[self.position + self.ahead]

    def placed(self, values: Tensor, like: Tensor) -> Tensor:
        """[B, T] the values [P] where the labels of the targets stand, 0 elsewhere."""
        out = values.new_zeros(like.shape)
        out.view(-1)[self.position + self.ahead] = values
        return out

    @property
    def divisor(self) -> Tensor:
        """[n] the mass, 1 where there is none; NaN where a selection is not of numbers, as the loss is then."""
        return self.tokens.clamp(min=1) if self.weight is None else torch.where(self.mass == 0, 1, self.mass)


def find_targets(
    labels: Tensor, segments: Tensor | None, shifted: bool, vocabulary: int, token_weights: Tensor | None = None,
    device: torch.device | None = None,
) -> Targets:  # fmt: skip
    """The predicted positions of `labels` [B, T], sorted by sample; on `device`, that of the labels by default.

    A target at the first position of a segment is nobody's: nothing of its own segment precedes it. One of weight 0 is
    not predicted; token_weights [B, T] are aligned with labels.

    >>> find_targets(torch.tensor([[7, -100, 3, 4]]), None, shifted=False, vocabulary=8).position
    tensor([1, 2])
    """
    device = labels.device if device is None else device
    given, owner = host(labels), None if segments is None else host(segments)
    target = given if shifted else _shift(given, IGNORED)
    predicted = target != IGNORED
    if owner is not None:
        predicted &= (owner >= 0) & _continues(owner)
    weight = None
    if token_weights is not None:
        weight = wide(token_weights)
        check_token_weights(torch.from_numpy(weight), tuple(labels.shape))
        weight = weight if shifted else _shift(weight, 0)
        predicted &= weight > 0
    position = np.flatnonzero(predicted)
    sample = position // labels.shape[1] if owner is None else owner.reshape(-1)[position]
    if owner is not None:
        order = sample.argsort(kind="stable")
        position, sample = position[order], sample[order]
    label = target.reshape(-1)[position]
    _check_labels(label, labels, vocabulary)
    counts = np.bincount(sample, minlength=len(given) if owner is None else int(owner.max()) + 1)
    tokens, mass = on_device(counts, device), None
    if weight is not None:
        weight = weight.reshape(-1)[position]
        mass = np.bincount(sample, weights=weight, minlength=len(counts))
    return Targets(
        position=on_device(position, device), label=on_device(label, device), sample=on_device(sample, device),
        tokens=tokens, weight=None if weight is None else on_device(weight, device),
        mass=tokens if mass is None else on_device(mass, device), counts=counts, ahead=0 if shifted else 1,
    )  # fmt: skip


def _shift(values: np.ndarray, last: int) -> np.ndarray:
    """Position t has what stands at t + 1; the last position, which predicts nothing, has `last`."""
    return np.concatenate([values[:, 1:], np.full_like(values[:, :1], last)], axis=1)


def _continues(segments: np.ndarray) -> np.ndarray:
    """[B, T] whether the next position belongs to the same segment; nothing is known to end at the last one."""
    same = np.ones(segments.shape, dtype=bool)
    same[:, :-1] = segments[:, :-1] == segments[:, 1:]
    return same


def _check_labels(label: np.ndarray, labels: Tensor, vocabulary: int) -> None:
    """On the P predicted labels only."""
    if not len(label):
        raise SamplewiseError(
            "labels", expected="at least one predicted token", got=f"none in shape {tuple(labels.shape)}",
            remedy="Leave out batches whose labels are all -100 (the first token of a row is never predicted).",
        )  # fmt: skip
    low, high = int(label.min()), int(label.max())
    if low < 0 or high >= vocabulary:
        raise SamplewiseError(
            "labels", expected=f"-100 or 0..{vocabulary - 1}, the {vocabulary} rows of the head", got=f"{low}..{high}",
            remedy="Resize the head to the tokenizer's vocabulary, or mask such labels with -100.",
        )  # fmt: skip

"""Which positions are predicted, what they predict and whose they are: found once, before any matrix product.

Shapes: B rows, T positions, V vocabulary, P predicted positions, n samples of the micro-batch.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from torch import Tensor

from samplewise.core.errors import SamplewiseError
from samplewise.losses.token_losses import IGNORED, exact_dtype


@dataclass(frozen=True)
class Targets:
    """The P predicted positions of a micro-batch, sample by sample.

    position: [P] index into the B·T flattened positions.
    label: [P] the token that the position predicts.
    sample: [P] ascending, the sample it belongs to.
    tokens: [n] int64, predicted tokens of every sample; the P are theirs, in order.
    weight: [P] fp64: what the token counts within its sample; None: 1 each.
    mass: [n] a sample's Σ weight, what its loss is divided by; its tokens where weight is None.
    ahead: how far its label stands after a position: 1, or 0 where labels are shifted.
    """

    position: Tensor
    label: Tensor
    sample: Tensor
    tokens: Tensor
    weight: Tensor | None
    mass: Tensor
    ahead: int

    def __len__(self) -> int:
        return self.position.numel()

    def reorder(self, order: Tensor) -> Targets:
        """The same positions in another order; `sample` ascends no longer."""
        weight = None if self.weight is None else self.weight[order]
        return replace(
            self, position=self.position[order], label=self.label[order], sample=self.sample[order], weight=weight
        )

    def means(self, token_loss: Tensor, start: int = 0, end: int | None = None) -> Tensor:
        """[n] Σ m·loss / Σ m of token losses [P] over positions start..end-1.

        Summed in fp64: a plain fp32 sum of 4,096 tokens is off by more than the softmax.
        """
        exact = exact_dtype(token_loss.device)
        part = self.weighed(token_loss[start:end].to(exact), start, end)
        total = torch.zeros(len(self.tokens), dtype=exact, device=token_loss.device)
        return (total.index_add_(0, self.sample[start:end], part) / self.divisor).to(token_loss.dtype)

    def weighed(self, token_loss: Tensor, start: int = 0, end: int | None = None) -> Tensor:
        """[c] m·loss of positions start..end-1, 0 where m is, whatever the loss."""
        if self.weight is None:
            return token_loss
        weight = self.weight[start:end]
        return torch.where(weight > 0, token_loss * weight, 0)

    def shares(self, values: Tensor, start: int = 0, end: int | None = None) -> Tensor:
        """[c] what each of positions start..end-1 has of its sample's value [n]: value·m / Σ m."""
        each = (values / self.divisor)[self.sample[start:end]]
        return each if self.weight is None else (each * self.weight[start:end]).to(values.dtype)

    def times(self, weight: Tensor, start: int, end: int) -> Targets:
        """The same targets, positions start..end-1 of which count `weight` [c] times what they did."""
        new = self.position.new_ones(len(self), dtype=weight.dtype) if self.weight is None else self.weight.clone()
        new[start:end] *= weight
        tokens = torch.bincount(self.sample[new > 0], minlength=len(self.tokens))
        return replace(self, weight=new, tokens=tokens, mass=_mass(new, self.sample, tokens))

    def present(self) -> Targets:
        """Without the positions of weight 0."""
        return self if self.weight is None else self.reorder((self.weight > 0).nonzero().squeeze(1))

    def given(self, values: Tensor) -> Tensor:
        """[P] what `values` [B, T], aligned with the labels, hold for the targets."""
        return values.reshape(-1)[self.position + self.ahead]

    def placed(self, values: Tensor, like: Tensor) -> Tensor:
        """[B, T] the values [P] where the labels of the targets stand, 0 elsewhere."""
        out = torch.zeros_like(like, dtype=values.dtype)
        out.view(-1)[self.position + self.ahead] = values
        return out

    @property
    def divisor(self) -> Tensor:
        """[n] the mass, 1 where there is none."""
        return self.tokens.clamp(min=1) if self.weight is None else torch.where(self.mass > 0, self.mass, 1)


def find_targets(
    labels: Tensor, segments: Tensor | None, shifted: bool, vocabulary: int, token_weights: Tensor | None = None
) -> Targets:
    """The predicted positions of `labels` [B, T], sorted by sample.

    A target at the first position of a segment is nobody's: nothing of its own segment precedes it. One of weight 0 is
    not predicted; token_weights [B, T] are aligned with labels.

    >>> find_targets(torch.tensor([[7, -100, 3, 4]]), None, shifted=False, vocabulary=8).position
    tensor([1, 2])
    """
    target = labels if shifted else _shift(labels, IGNORED)
    predicted = target != IGNORED
    if segments is None:
        sample = torch.arange(labels.shape[0], device=labels.device)[:, None].expand_as(labels)
        count = labels.shape[0]
    else:
        sample = segments
        count = int(segments.max()) + 1
        predicted = predicted & (segments >= 0) & _continues(segments)
    if token_weights is not None:
        token_weights = token_weights if shifted else _shift(token_weights, 0)
        predicted = predicted & (token_weights > 0)
    position = predicted.reshape(-1).nonzero().squeeze(1)
    if segments is not None:
        position = position[sample.reshape(-1)[position].argsort(stable=True)]
    label, owner = target.reshape(-1)[position], sample.reshape(-1)[position].long()
    _check_labels(label, labels, vocabulary)
    tokens = torch.bincount(owner, minlength=count)
    weight = None if token_weights is None else token_weights.reshape(-1)[position].to(exact_dtype(labels.device))
    mass = tokens if weight is None else _mass(weight, owner, tokens)
    return Targets(
        position=position, label=label, sample=owner, tokens=tokens, weight=weight, mass=mass,
        ahead=0 if shifted else 1,
    )  # fmt: skip


def _mass(weight: Tensor, sample: Tensor, tokens: Tensor) -> Tensor:
    """[n] Σ weight over the tokens of each sample."""
    return torch.zeros_like(tokens, dtype=weight.dtype).index_add_(0, sample, weight)


def _shift(values: Tensor, last: int) -> Tensor:
    """Position t has what stands at t + 1; the last position, which predicts nothing, has `last`."""
    return torch.cat([values[:, 1:], values.new_full((values.shape[0], 1), last)], dim=1)


def _continues(segments: Tensor) -> Tensor:
    """[B, T] whether the next position belongs to the same segment; nothing is known to end at the last one."""
    same = torch.ones_like(segments, dtype=torch.bool)
    same[:, :-1] = segments[:, :-1] == segments[:, 1:]
    return same


def _check_labels(label: Tensor, labels: Tensor, vocabulary: int) -> None:
    """On the P predicted labels only: two reductions over integers, nothing beside one row of logits."""
    if label.numel() == 0:
        raise SamplewiseError(
            "labels", expected="at least one predicted token", got=f"none in shape {tuple(labels.shape)}",
            remedy="Leave out batches whose labels are all -100 (the first token of a row is never predicted).",
        )  # fmt: skip
    low, high = (int(x) for x in torch.aminmax(label))
    if low < 0 or high >= vocabulary:
        raise SamplewiseError(
            "labels", expected=f"-100 or 0..{vocabulary - 1}, the {vocabulary} rows of the head", got=f"{low}..{high}",
            remedy="Resize the head to the tokenizer's vocabulary, or mask such labels with -100.",
        )  # fmt: skip

"""Which positions are predicted, what they predict and whose they are: found once, before any matrix product.

Shapes: B rows, T positions, V vocabulary, P predicted positions, n samples of the micro-batch.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from samplewise.types import SamplewiseError

IGNORED = -100


@dataclass(frozen=True)
class Targets:
    """The P predicted positions of a micro-batch, sample by sample.

    position: [P] index into the B·T flattened positions.
    label: [P] the token that the position predicts.
    sample: [P] ascending, the sample it belongs to.
    tokens: [n] int64, predicted tokens of every sample; the P are theirs, in order.
    """

    position: Tensor
    label: Tensor
    sample: Tensor
    tokens: Tensor

    def __len__(self) -> int:
        return self.position.numel()

    def reorder(self, order: Tensor) -> Targets:
        """The same positions in another order; `sample` ascends no longer."""
        return Targets(self.position[order], self.label[order], self.sample[order], self.tokens)


def find_targets(labels: Tensor, segments: Tensor | None, shifted: bool, vocabulary: int) -> Targets:
    """The predicted positions of `labels` [B, T], sorted by sample.

    A target at the first position of a segment is nobody's: nothing of its own segment precedes it.

    >>> find_targets(torch.tensor([[7, -100, 3, 4]]), None, shifted=False, vocabulary=8).position
    tensor([1, 2])
    """
    target = labels if shifted else _shift(labels)
    predicted = target != IGNORED
    if segments is None:
        sample = torch.arange(labels.shape[0], device=labels.device)[:, None].expand_as(labels)
        count = labels.shape[0]
    else:
        sample = segments
        count = int(segments.max()) + 1
        predicted = predicted & (segments >= 0) & _continues(segments)
    position = predicted.reshape(-1).nonzero().squeeze(1)
    if segments is not None:
        position = position[sample.reshape(-1)[position].argsort(stable=True)]
    label, owner = target.reshape(-1)[position], sample.reshape(-1)[position].long()
    _check_labels(label, labels, vocabulary)
    return Targets(position, label, owner, torch.bincount(owner, minlength=count))


def _shift(labels: Tensor) -> Tensor:
    """Position t predicts labels[t + 1]; the last position predicts nothing."""
    return torch.cat([labels[:, 1:], labels.new_full((labels.shape[0], 1), IGNORED)], dim=1)


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

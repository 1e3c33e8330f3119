"""From logits to sample losses: shift, masks, and the mean over a sample's predicted tokens."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from samplewise.types import SamplewiseError

IGNORED = -100
"""The label of a token that is not predicted, as everywhere in the field."""


def token_counts(labels: Tensor) -> Tensor:
    """[B] int64: how many tokens of each row are predicted (the first position never is).

    labels: [B, T], not shifted: position t predicts labels[t + 1].

    >>> token_counts(torch.tensor([[5, 6, 7], [5, -100, -100]])).tolist()
    [2, 0]
    """
    return labels[:, 1:].ne(IGNORED).sum(1)


def token_losses(logits: Tensor, labels: Tensor) -> Tensor:
    """[B, T − 1] −log p(labels[t + 1]), nats, 0 where that label is −100; at least fp32, differentiable.

    logits: [B, T, V]; labels: [B, T], not shifted.
    Errors: SamplewiseError on shapes that do not fit, and on labels outside the vocabulary.
    """
    if logits.dim() != 3 or logits.shape[:2] != labels.shape:
        raise SamplewiseError(
            "logits, labels", expected="shapes [B, T, V] and [B, T]",
            got=f"{tuple(logits.shape)}, {tuple(labels.shape)}",
            remedy="Give the labels as the model takes them: not shifted, −100 where nothing is predicted.",
        )  # fmt: skip
    targets = labels[:, 1:]
    _check_labels(targets, logits.shape[2])
    if logits.dtype not in (torch.float32, torch.float64):
        logits = logits.float()
    flat = F.cross_entropy(logits[:, :-1].flatten(0, 1), targets.flatten(), ignore_index=IGNORED, reduction="none")
    return flat.view(targets.shape)


def sample_losses(logits: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
    """The loss of every row, nats/token, and its number of predicted tokens; differentiable.

    logits: [B, T, V]; labels: [B, T], not shifted. Returns [B] losses, at least fp32, and [B] int64 counts.
    A row without a predicted token has loss 0 and count 0: it is not a sample.

    >>> loss, tokens = sample_losses(torch.zeros(2, 3, 8), torch.tensor([[1, 2, 3], [1, 2, -100]]))
    >>> loss.tolist(), tokens.tolist()  # uniform over 8 tokens: log 8
    ([2.0794..., 2.0794...], [2, 1])
    """
    per_token = token_losses(logits, labels)
    tokens = token_counts(labels)
    return per_token.sum(1) / tokens.clamp(min=1), tokens


def _check_labels(targets: Tensor, vocabulary: int) -> None:
    if targets.numel() == 0:
        return
    low, high = (int(bound) for bound in torch.aminmax(targets))
    if high >= vocabulary or (low < 0 and bool(((targets < 0) & (targets != IGNORED)).any())):
        raise SamplewiseError(
            "labels", expected=f"token ids below the vocabulary's {vocabulary}, or −100", got=f"{low} to {high}",
            remedy="Tokenizer and model must belong together; resize the embeddings if tokens were added.",
        )  # fmt: skip

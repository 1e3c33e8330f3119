"""From logits to sample losses: shift, masks, segments, token weights, and the mean over a sample's predicted tokens.

Shapes: B rows, T positions, V vocabulary, n samples: the rows, or the segments 0..max(segments).
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from samplewise.core.errors import SamplewiseError
from samplewise.core.host import exact_dtype, host, is_on_host, on_device, to_device

IGNORED = -100
"""The label of a token that is not predicted, as everywhere in the field."""


def token_counts(labels: Tensor, token_weights: Tensor | None = None, segments: Tensor | None = None) -> Tensor:
    """[n] int64: how many tokens of each sample are predicted (the first of a row or segment never is).

    labels, token_weights, segments: [B, T], as `sample_losses` takes them.

    >>> token_counts(torch.tensor([[5, 6, 7], [5, -100, -100]])).tolist()
    [2, 0]
    """
    if token_weights is None and segments is None:
        return labels[:, 1:].ne(IGNORED).sum(1)
    return _by_sample(_predicted(labels, token_weights, segments), segments)


def token_mass(labels: Tensor, token_weights: Tensor | None = None, segments: Tensor | None = None) -> Tensor:
    """[n] Σ m_t over each sample's predicted tokens, what its loss is divided by: its count without token weights.

    labels, token_weights, segments: [B, T], as `sample_losses` takes them. Returns int64 without token weights, fp64
    with them.

    >>> token_mass(torch.tensor([[5, 6, 7], [5, -100, 7]]), torch.tensor([[9.0, 0.5, 1.0]] * 2)).tolist()
    [1.5, 1.0]
    """
    if token_weights is None:
        return token_counts(labels, None, segments)
    weights = token_weights[:, 1:].to(exact_dtype(token_weights.device))
    return _by_sample(weights * _predicted(labels, token_weights, segments), segments)


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
    _check_labels(labels[:, 1:], logits.shape[2])  # where they are: on the host, as a rule
    targets = to_device(labels[:, 1:], logits.device)
    if logits.dtype not in (torch.float32, torch.float64):
        logits = logits.float()
    flat = F.cross_entropy(logits[:, :-1].flatten(0, 1), targets.flatten(), ignore_index=IGNORED, reduction="none")
    return flat.view(targets.shape)


def sample_losses(
    logits: Tensor, labels: Tensor, *, segments: Tensor | None = None, token_weights: Tensor | None = None
) -> tuple[Tensor, Tensor]:
    """The loss of every sample, nats/token, and its number of predicted tokens; differentiable.

    logits: [B, T, V]; labels: [B, T], not shifted.
    segments: [B, T] each position's sample, 0..n-1 over the whole micro-batch, -1 for none; without it a row is one.
        What stands at a segment's first position is not predicted.
    token_weights: [B, T] of 0 or more, aligned with labels: what predicting labels[t] counts within its sample, whose
        loss is Σ m_t ℓ_t / Σ m_t. A token of weight 0 is one of label −100: neither predicted nor counted.
    Returns [n] losses, at least fp32, and [n] int64 counts. A sample without a predicted token has loss 0 and count 0:
    it is not a sample.

    >>> loss, tokens = sample_losses(torch.zeros(2, 3, 8), torch.tensor([[1, 2, 3], [1, 2, -100]]))
    >>> loss.tolist(), tokens.tolist()  # uniform over 8 tokens: log 8
    ([2.0794..., 2.0794...], [2, 1])
    """
    if segments is None and token_weights is None:
        per_token = token_losses(logits, labels)
        tokens = to_device(token_counts(labels), per_token.device)
        return per_token.sum(1) / tokens.clamp(min=1), tokens
    predicted = _predicted(labels, token_weights, segments)
    known = torch.cat([labels[:, :1], labels[:, 1:].masked_fill(~predicted, IGNORED)], dim=1)
    aligned = F.pad(token_losses(logits, known), (1, 0))
    return sample_means(aligned, labels, segments=segments, token_weights=token_weights)


def sample_means(
    token_loss: Tensor, labels: Tensor, *, segments: Tensor | None = None, token_weights: Tensor | None = None
) -> tuple[Tensor, Tensor]:
    """`sample_losses` from token losses that are there already: another weighting of them needs no second forward.

    token_loss: [B, T] nats, aligned with labels, as `kernels.score` returns them; differentiable.

    >>> weights = torch.tensor([[0.0, 3.0, 1.0]])
    >>> sample_means(torch.tensor([[0.0, 1.0, 2.0]]), torch.tensor([[5, 6, 7]]), token_weights=weights)
    (tensor([1.2500]), tensor([2]))
    """
    _check_shape("token_loss", token_loss, labels)
    device, exact = token_loss.device, exact_dtype(token_loss.device)
    predicted = _predicted(labels, token_weights, segments)
    tokens, mass = _by_sample(predicted, segments), token_mass(labels, token_weights, segments)
    loss = torch.where(to_device(predicted, device), token_loss[:, 1:], 0).to(exact)
    if token_weights is not None:
        loss = loss * to_device(token_weights[:, 1:].to(exact), device)
    divisor = to_device(torch.where(mass > 0, mass, 1).to(exact), device)
    return (_by_sample(loss, segments) / divisor).to(token_loss.dtype), to_device(tokens, device)


def select_tokens(
    select: Callable[[Tensor, Tensor | None, Tensor], Tensor], token_loss: Tensor, labels: Tensor,
    reference: Tensor | None = None, *, segments: Tensor | None = None, token_weights: Tensor | None = None,
) -> Tensor:  # fmt: skip
    """[B, T] the token weights that `select` gives, aligned with labels: 0 where nothing is predicted.

    select: (loss [P], reference [P] or None, sample [P]) -> [P] weights, such as a `rules.TokenRule`.
    token_loss, reference: [B, T] nats, aligned with labels. token_weights: what the tokens weigh already, a factor.

    >>> select = lambda loss, reference, sample: loss > 1.5
    >>> select_tokens(select, torch.tensor([[0.0, 1.0, 2.0]]), torch.tensor([[5, 6, 7]])).tolist()
    [[0.0, 0.0, 1.0]]
    """
    for name, values in (("token_loss", token_loss), ("reference", reference)):
        if values is not None:
            _check_shape(name, values, labels)
    device, width = token_loss.device, labels.shape[1]
    row, column = host(_predicted(labels, token_weights, segments)).nonzero()
    sample = on_device(row if segments is None else host(segments)[row, column + 1], device)
    index = on_device(row * width + column + 1, device)
    theirs = None if reference is None else reference.reshape(-1)[index]
    selected = torch.as_tensor(select(token_loss.detach().reshape(-1)[index], theirs, sample))
    check_token_weights(selected, tuple(sample.shape))
    out = torch.zeros(labels.shape, dtype=exact_dtype(device), device=device)
    out.view(-1)[index] = selected.to(out)
    return out if token_weights is None else out * to_device(token_weights.to(out.dtype), device)


def check_token_weights(weights: Tensor, shape: tuple[int, ...]) -> None:
    """SamplewiseError unless `weights` are finite numbers of 0 or more in labels' shape.

    Numbers on a device are not waited for: who reads them on the host looks at them then.
    """
    if tuple(weights.shape) != shape:
        raise SamplewiseError(
            "token_weights", expected=f"labels' shape [B, T] = {shape}", got=tuple(weights.shape),
            remedy="Give one for every label; 0 leaves its token out.",
        )  # fmt: skip
    bad = ~(weights >= 0) | ~weights.isfinite()
    if is_on_host(weights) and host(bad).any():
        raise SamplewiseError(
            "token_weights", expected="finite numbers of 0 or more",
            got=f"{weights[bad][:3].tolist()} at {bad.nonzero()[:3].tolist()}",
            remedy="A token's weight is relative to the others' of its sample; leave a token out with 0.",
        )  # fmt: skip


def _predicted(labels: Tensor, token_weights: Tensor | None, segments: Tensor | None) -> Tensor:
    """[B, T − 1] whether position t predicts labels[t + 1]: not masked, of positive weight, in its own segment."""
    predicted = labels[:, 1:] != IGNORED
    if token_weights is not None:
        check_token_weights(token_weights, tuple(labels.shape))
        predicted = predicted & (token_weights[:, 1:] > 0)
    if segments is not None:
        _check_shape("segments", segments, labels)
        predicted = predicted & (segments[:, 1:] == segments[:, :-1]) & (segments[:, 1:] >= 0)
    return predicted


def _check_shape(name: str, values: Tensor, labels: Tensor) -> None:
    if values.shape != labels.shape:
        raise SamplewiseError(
            name, expected=f"labels' shape [B, T] = {tuple(labels.shape)}", got=tuple(values.shape),
            remedy="Give one value for every label, whether it is predicted or not.",
        )  # fmt: skip


def _by_sample(values: Tensor, segments: Tensor | None) -> Tensor:
    """[n] sums of values [B, T − 1], which are 0 outside segments; bools are counted."""
    if segments is None:
        return values.sum(1)
    owner = host(segments)[:, 1:].reshape(-1)
    order = owner.argsort(kind="stable")[(owner < 0).sum() :]  # sums by runs: CUDA fixes no order of an index_add
    owner, count = owner[order], int(host(segments).max()) + 1
    if is_on_host(values) and not values.requires_grad:
        found = np.bincount(owner, weights=host(values).reshape(-1)[order], minlength=count)
        return torch.from_numpy(found).to(torch.int64 if values.dtype == torch.bool else torch.float64)
    lengths = np.bincount(owner, minlength=count)
    exact = values.flatten()[on_device(order, values.device)].to(exact_dtype(values.device))
    total = torch.segment_reduce(exact, "sum", lengths=on_device(lengths, values.device), unsafe=True)
    return total.to(torch.int64) if values.dtype == torch.bool else total


def _check_labels(targets: Tensor, vocabulary: int) -> None:
    if targets.numel() == 0:
        return
    every = host(targets)
    low, high = int(every.min()), int(every.max())
    if high >= vocabulary or (low < 0 and ((every < 0) & (every != IGNORED)).any()):
        raise SamplewiseError(
            "labels", expected=f"token ids below the vocabulary's {vocabulary}, or −100", got=f"{low} to {high}",
            remedy="Use the model's own tokenizer; resize the embeddings if tokens were added.",
        )  # fmt: skip

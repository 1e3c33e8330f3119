"""The oracle: logits, log-softmax, one mean a sample. Slow, large and obvious; the other backends must equal it."""

from __future__ import annotations

import torch
from torch import Tensor

from samplewise.losses.kernels.inputs import Inputs
from samplewise.losses.kernels.targets import Targets


def losses(inputs: Inputs, targets: Targets) -> tuple[Tensor, Tensor]:
    """[n] losses, nats/token, and the [P] token losses without history.

    In fp32 or wider whatever the inputs' dtype, autocast or not.

    >>> from samplewise.losses.kernels.targets import find_targets
    >>> x = Inputs(torch.zeros(1, 3, 2), torch.zeros(5, 2), torch.tensor([[0, 1, 2]]))
    >>> losses(x, find_targets(x.labels, None, False, 5))
    (tensor([1.6094]), tensor([1.6094, 1.6094]))
    """
    log_p = torch.log_softmax(logits(inputs), dim=-1)
    rows, length = inputs.labels.shape
    kept: dict[int, list[tuple[Tensor, float]]] = {}
    for row in range(rows):
        for t in range(length):
            label, sample, weight = _target(inputs, row, t)
            if label >= 0:
                kept.setdefault(sample, []).append((-log_p[row, t, label], weight))
    count = rows if inputs.segments is None else int(inputs.segments.max()) + 1
    token = -log_p.detach().flatten(0, 1)[targets.position, targets.label]
    nothing = log_p[:0].sum()  # 0, within the graph
    return torch.stack([_mean(kept.get(i, []), nothing) for i in range(count)]), token


def _mean(terms: list[tuple[Tensor, float]], zero: Tensor) -> Tensor:
    """[] Σ m·loss / Σ m over the tokens of one sample."""
    if not terms:
        return zero
    weight = torch.tensor([m for _, m in terms], dtype=zero.dtype, device=zero.device)
    return (torch.stack([loss for loss, _ in terms]) * weight).sum() / weight.sum()


def logits(inputs: Inputs) -> Tensor:
    """[B, T, V] in fp32 or wider."""
    wide = inputs.loss_dtype
    with torch.autocast(inputs.hidden.device.type, enabled=False):
        out = inputs.hidden.to(wide) @ inputs.head.to(wide).T
    if inputs.bias is not None:
        out = out + inputs.bias.to(wide)
    out = out * inputs.scale
    return out if inputs.softcap is None else inputs.softcap * torch.tanh(out / inputs.softcap)


def _target(inputs: Inputs, row: int, t: int) -> tuple[int, int, float]:
    """(label, sample, weight) of a position; label -100 where nothing is predicted."""
    length = inputs.labels.shape[1]
    at = t if inputs.shifted else t + 1
    label = int(inputs.labels[row, at]) if at < length else -100
    weight = 1.0 if inputs.token_weights is None or at >= length else float(inputs.token_weights[row, at])
    label = label if weight > 0 else -100
    if inputs.segments is None:
        return label, row, weight
    sample = int(inputs.segments[row, t])
    ends = t + 1 < length and int(inputs.segments[row, t + 1]) != sample
    return (-100 if ends or sample < 0 else label), sample, weight

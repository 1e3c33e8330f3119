"""Whether the gradients of samples agree with that of held-out text, by quantile of the loss, in closed form.

The gradient of a sample's mean loss with respect to the head's weight is G = (1/n) Σ_t δ_t h_tᵀ with δ_t = p_t − e(y_t)
(times the model's logit scale). It is never built: ⟨G, H⟩ = (1/n) Σ_t δ_tᵀ H h_t for the one held-out gradient H, and
‖G‖² = (1/n²) Σ_ts (δ_t·δ_s)(h_t·h_s), from Gram matrices of T × T.
Cost: about four times the head's forward, and one matrix of the head's size for H.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from samplewise.core.errors import SamplewiseError
from samplewise.data import Window
from samplewise.losses.evaluation import evaluating
from samplewise.losses.head import Head, find_head


class Agreement(NamedTuple):
    """By sample: cosine with the held-out gradient; projection on it, which is the fall of the held-out loss in nats
    for a small step along the sample's gradient, per length of step; norm of its gradient.
    """

    cosine: np.ndarray
    projection: np.ndarray
    norm: np.ndarray


def agreement(model: Any, samples: Sequence[Window], held_out: Sequence[Window]) -> Agreement:
    """How each sample's head gradient agrees with the mean one of the held-out windows.

    Errors: SamplewiseError for models whose logits are capped, and as in `find_head`.
    """
    head = find_head(model)
    if head.softcap is not None:
        raise SamplewiseError(
            "model", expected="logits that are a matrix product", got="capped ones",
            remedy="Use a model without logit capping.",
        )  # fmt: skip
    with evaluating(model):
        target = _mean_gradient(head, held_out)
        length = float(target.norm())
        dots, norms = zip(*(_dot_and_norm(*pair, target) for pair in _pairs(head, samples)), strict=True)
    dot, norm = np.array(dots), np.array(norms)
    return Agreement(dot / np.maximum(norm * length, 1e-300), dot / length, norm)


def _pairs(head: Head, windows: Sequence[Window]) -> Iterator[tuple[Tensor, Tensor]]:
    """For each window (δ [T, V], h [T, D]) of its predicted tokens, at least fp32."""
    device = head.weight.device
    for window in windows:
        ids = torch.from_numpy(window.input_ids).long().to(device)
        hidden = head.body(input_ids=ids[None]).last_hidden_state[0, :-1]
        wide = torch.promote_types(hidden.dtype, torch.float32)
        h = hidden.to(wide)
        logits = torch.nn.functional.linear(h, head.weight.to(wide), None if head.bias is None else head.bias.to(wide))
        delta = (logits * head.scale).softmax(-1)
        delta[torch.arange(len(delta), device=device), ids[1:]] -= 1
        yield delta * head.scale, h


def _mean_gradient(head: Head, windows: Sequence[Window]) -> Tensor:
    """[V, D]: the mean over windows of the gradients of their mean losses."""
    total: Tensor | None = None
    for delta, h in _pairs(head, windows):
        part = delta.T @ h / len(h)
        total = part if total is None else total.add_(part)
    if total is None:
        raise SamplewiseError(
            "held_out", expected="at least one window", got="none", remedy="Hold out some text with held_out."
        )
    return total / len(windows)


def _dot_and_norm(delta: Tensor, h: Tensor, target: Tensor) -> tuple[float, float]:
    n = len(h)
    dot = float((delta * (h @ target.T)).sum()) / n
    squared = float(((delta @ delta.T) * (h @ h.T)).sum()) / n**2
    return dot, max(squared, 0.0) ** 0.5

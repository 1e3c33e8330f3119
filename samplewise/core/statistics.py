"""Figures that say what a set of weights does. [N] weights in, one float out."""

from __future__ import annotations

from typing import TYPE_CHECKING

from samplewise.core.host import wide

if TYPE_CHECKING:
    import numpy as np
    import torch
    from torch import Tensor
else:
    from samplewise.core.lazy import numpy as np
    from samplewise.core.lazy import torch


def effective_sample_size(weights: Tensor) -> float:
    """(Σw)² / Σw², between 1 and N (Kish, 1965); 0 where all are 0.

    >>> effective_sample_size(torch.tensor([1.0, 1.0, 0.0, 0.0]))
    2.0
    """
    w = wide(weights)
    largest = w.max(initial=0.0)
    if largest == 0:
        return 0.0
    w = w / largest
    return float(w.sum() ** 2 / (w**2).sum())


def kl_to_uniform(weights: Tensor) -> float:
    """KL(p ‖ uniform) in nats: 0 for equal weights, log N for a single sample; 0 where all are 0.

    >>> round(kl_to_uniform(torch.tensor([1.0, 0.0])), 4)
    0.6931
    """
    w = wide(weights)
    p = w[w > 0] / w.sum()
    return max(0.0, float((p * np.log(p * len(w))).sum()))


def correlation(x: Tensor, y: Tensor) -> float:
    """Pearson's correlation; 0 where one of the two does not vary.

    >>> round(correlation(torch.tensor([1.0, 2.0]), torch.tensor([3.0, 1.0])), 6)
    -1.0
    """
    x_, y_ = wide(x), wide(y)
    a, b = x_ - x_.mean(), y_ - y_.mean()
    scale = _norm(a) * _norm(b)
    tiny = 1e-12 * (1 + _norm(x_) * _norm(y_))
    return max(-1.0, min(1.0, float(a @ b) / scale)) if scale > tiny else 0.0


def _norm(values: np.ndarray) -> float:
    return float(np.sqrt(values @ values))


def rank_correlation(x: Tensor, y: Tensor) -> float:
    """Spearman's correlation: Pearson's of the ranks, ties at their middle rank; 0 where one does not vary.

    >>> round(rank_correlation(torch.tensor([1.0, 2.0, 9.0]), torch.tensor([0.1, 0.2, 0.3])), 6)
    1.0
    """
    return correlation(_ranks(x), _ranks(y))


def _ranks(values: Tensor) -> Tensor:
    ordered = values.double().sort().values
    below = torch.searchsorted(ordered, values.double())
    return (below + torch.searchsorted(ordered, values.double(), right=True)).double() / 2

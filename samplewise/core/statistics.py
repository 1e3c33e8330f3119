"""Figures that say what a set of weights does. [N] weights in, one float out."""

from __future__ import annotations

import torch
from torch import Tensor


def effective_sample_size(weights: Tensor) -> float:
    """(Σw)² / Σw², between 1 and N (Kish, 1965).

    >>> effective_sample_size(torch.tensor([1.0, 1.0, 0.0, 0.0]))
    2.0
    """
    w = weights.double() / weights.double().max().clamp(min=torch.finfo(torch.float64).tiny)
    return float(w.sum() ** 2 / (w**2).sum())


def kl_to_uniform(weights: Tensor) -> float:
    """KL(p ‖ uniform) in nats: 0 for equal weights, log N for a single sample.

    >>> round(kl_to_uniform(torch.tensor([1.0, 0.0])), 4)
    0.6931
    """
    p = weights.double() / weights.double().sum()
    return max(0.0, float(torch.xlogy(p, p * p.numel()).sum()))


def correlation(x: Tensor, y: Tensor) -> float:
    """Pearson's correlation; 0 where one of the two does not vary.

    >>> round(correlation(torch.tensor([1.0, 2.0]), torch.tensor([3.0, 1.0])), 6)
    -1.0
    """
    a, b = x.double() - x.double().mean(), y.double() - y.double().mean()
    scale = float(a.norm() * b.norm())
    tiny = 1e-12 * (1 + float(x.double().norm() * y.double().norm()))
    return max(-1.0, min(1.0, float(a @ b) / scale)) if scale > tiny else 0.0


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

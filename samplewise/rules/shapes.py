"""Weights by where a loss lies between the lowest and the highest of the step (arXiv 2502.06733)."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from samplewise.rules.base import check_number, make_rule
from samplewise.rules.schedules import Number, schedulable
from samplewise.types import Rule, Samples, State


@schedulable
def lin_upper(r: Number = 1.0) -> Rule:
    """LinUpper: weights rise with the loss up to the middle of the step's range, and are equal above it.

    r: temperature, above 0, without a unit (losses are scaled to [−1, 1] first); large r is uniform.
    Formula: weight ∝ exp(s / r), s = min(h + 1, 1), h = (2·loss − (max + min)) / max(max − min, 1e-6), extrema over
    the samples present. One sample, or equal losses: uniform.
    Source: Sow et al., arXiv 2502.06733, with δ = 1; there after a uniform start: `warmup(steps, lin_upper(r))`. Not
    pointwise. Errors: SamplewiseError if r is not a finite number above 0.

    >>> import samplewise as sw
    >>> [round(w, 3) for w in sw.weights(sw.lin_upper(r=1.0), [1.0, 2.0, 3.0, 4.0]).tolist()]
    [0.477, 0.929, 1.297, 1.297]
    """
    return _shaped("lin_upper", r, lambda h: (h + 1).clamp(max=1))


@schedulable
def quadratic(r: Number = 1.0) -> Rule:
    """Quadratic: losses in the middle of the step's range weigh most, the extremes least.

    r: temperature, above 0, without a unit; large r is uniform.
    Formula: weight ∝ exp(s / r), s = 1 − h², h as in `lin_upper`. One sample, or equal losses: uniform.
    Source: Sow et al., arXiv 2502.06733, with δ = 1. Not pointwise.
    Errors: SamplewiseError if r is not a finite number above 0.

    >>> import samplewise as sw
    >>> [round(w, 3) for w in sw.weights(sw.quadratic(r=1.0), [1.0, 2.0, 3.0, 4.0]).tolist()]
    [0.583, 1.417, 1.417, 0.583]
    """
    return _shaped("quadratic", r, lambda h: 1 - h * h)


@schedulable
def extremes(r: Number = 1.0) -> Rule:
    """Extremes: the lowest and the highest losses of the step weigh most, the middle least.

    r: temperature, above 0, without a unit; large r is uniform.
    Formula: weight ∝ exp(s / r), s = |h|, h as in `lin_upper`. One sample, or equal losses: uniform.
    Source: Sow et al., arXiv 2502.06733. Not pointwise.
    Errors: SamplewiseError if r is not a finite number above 0.

    >>> import samplewise as sw
    >>> [round(w, 3) for w in sw.weights(sw.extremes(r=1.0), [1.0, 2.0, 3.0, 4.0]).tolist()]
    [1.322, 0.678, 0.678, 1.322]
    """
    return _shaped("extremes", r, torch.abs)


def _shaped(name: str, r: object, shape: Callable[[Tensor], Tensor]) -> Rule:
    number = check_number("r", r, 0, "a finite temperature above 0", "uniform() is r → ∞.", above=True)

    def body(weights: Tensor, samples: Samples, state: State) -> Tensor:
        low, high = samples.loss.min(), samples.loss.max()
        h = (2 * (samples.loss - low) - (high - low)) / (high - low).clamp(min=1e-6)
        s = shape(h)
        return weights * torch.exp((s - s.max()) / number)

    return make_rule(f"{name}(r={number})", body)

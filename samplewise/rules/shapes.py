"""Weights by where a loss lies between the lowest and the highest of the step (arXiv 2502.06733)."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from samplewise.core.host import host
from samplewise.core.rule import Rule, State
from samplewise.core.samples import Samples
from samplewise.rules.base import check_number, make_rule
from samplewise.rules.schedules import Number, schedulable
from samplewise.rules.windows import whole_window

if TYPE_CHECKING:
    import torch
    from torch import Tensor
else:
    from samplewise.core.lazy import torch


@schedulable
def lin_upper(r: Number = 1.0, window: int | None = None) -> Rule:
    """LinUpper: weights rise with the loss up to the middle of the step's range, and are equal above it.

    r: temperature, above 0, without a unit (losses are scaled to [−1, 1] first); large r is uniform.
    window: a number of steps: extrema over the last `window` steps instead of this one, losses beyond them counting as
        them; pointwise as soon as so many were seen, by the step's own extrema until then.
    Formula: weight ∝ exp(s / r), s = min(h + 1, 1), h = (2·loss − (max + min)) / max(max − min, 1e-6), extrema over
    the samples present. One sample, or equal losses: uniform.
    Source: Sow et al., arXiv 2502.06733, with δ = 1; there after a uniform start: `warmup(steps, lin_upper(r))`. Not
    pointwise. Errors: SamplewiseError if r is not a finite number above 0.

    >>> import samplewise as sw
    >>> [round(w, 3) for w in sw.weights(sw.lin_upper(r=1.0), [1.0, 2.0, 3.0, 4.0]).tolist()]
    [0.477, 0.929, 1.297, 1.297]
    """
    return _shaped("lin_upper", r, lambda h: (h + 1).clamp(max=1), window)


@schedulable
def quadratic(r: Number = 1.0, window: int | None = None) -> Rule:
    """Quadratic: losses in the middle of the step's range weigh most, the extremes least.

    r: temperature, above 0, without a unit; large r is uniform. window: as in `lin_upper`.
    Formula: weight ∝ exp(s / r), s = 1 − h², h as in `lin_upper`. One sample, or equal losses: uniform.
    Source: Sow et al., arXiv 2502.06733, with δ = 1. Not pointwise.
    Errors: SamplewiseError if r is not a finite number above 0.

    >>> import samplewise as sw
    >>> [round(w, 3) for w in sw.weights(sw.quadratic(r=1.0), [1.0, 2.0, 3.0, 4.0]).tolist()]
    [0.583, 1.417, 1.417, 0.583]
    """
    return _shaped("quadratic", r, lambda h: 1 - h * h, window)


@schedulable
def extremes(r: Number = 1.0, window: int | None = None) -> Rule:
    """Extremes: the lowest and the highest losses of the step weigh most, the middle least.

    r: temperature, above 0, without a unit; large r is uniform. window: as in `lin_upper`.
    Formula: weight ∝ exp(s / r), s = |h|, h as in `lin_upper`. One sample, or equal losses: uniform.
    Source: Sow et al., arXiv 2502.06733. Not pointwise.
    Errors: SamplewiseError if r is not a finite number above 0.

    >>> import samplewise as sw
    >>> [round(w, 3) for w in sw.weights(sw.extremes(r=1.0), [1.0, 2.0, 3.0, 4.0]).tolist()]
    [1.322, 0.678, 0.678, 1.322]
    """
    return _shaped("extremes", r, torch.abs, window)


def _shaped(name: str, r: object, shape: Callable[[Tensor], Tensor], window: int | None) -> Rule:
    number = check_number("r", r, 0, "a finite temperature above 0", "uniform() is r → ∞.", above=True)

    def power(loss: Tensor, low: float, high: float) -> Tensor:
        h = (2 * (loss.clamp(low, high) - low) - (high - low)) / max(high - low, 1e-6)
        return (shape(h) - 1) / number  # 1 is the highest that a shape has

    if window is not None:
        return _over_window(f"{name}(r={number}, window={window})", power, whole_window(window))
    return make_rule(
        f"{name}(r={number})",
        lambda weights, samples, state: weights * _largest_one(power(samples.loss, *_extrema(samples))),
    )


def _largest_one(power: Tensor) -> Tensor:
    """exp(power), scaled to a largest value of 1: no temperature is too low for it."""
    return torch.exp(power - power.max())


def _over_window(expression: str, power: Callable[[Tensor, float, float], Tensor], window: int) -> Rule:
    """State: the extrema of the window's steps, oldest first."""

    def learned(state: State) -> tuple[Tensor, Tensor]:
        lows, highs = state["lows"], state["highs"]
        assert isinstance(lows, torch.Tensor)
        assert isinstance(highs, torch.Tensor)
        return lows, highs

    def factor_ready(state: State) -> bool:
        return len(learned(state)[0]) == window

    def shaped(samples: Samples, state: State) -> Tensor:
        lows, highs = learned(state)
        return power(samples.loss, float(host(lows).min()), float(host(highs).max()))

    def body(weights: Tensor, samples: Samples, state: State) -> Tensor:
        return weights * _largest_one(
            shaped(samples, state) if factor_ready(state) else power(samples.loss, *_extrema(samples))
        )

    def update(samples: Samples, weights: Tensor, state: State) -> State:
        pairs = zip(learned(state), _extrema(samples), strict=True)
        lows, highs = (torch.cat([old, torch.tensor([new], dtype=torch.float64)])[-window:] for old, new in pairs)
        return {"lows": lows, "highs": highs}

    def init() -> State:
        return {"lows": torch.zeros(0, dtype=torch.float64), "highs": torch.zeros(0, dtype=torch.float64)}

    return make_rule(
        expression, body, init=init, update=update, factor_ready=factor_ready,
        factor=lambda samples, state: torch.exp(shaped(samples, state)),
    )  # fmt: skip


def _extrema(samples: Samples) -> tuple[float, float]:
    loss = host(samples.loss)
    return float(loss.min()), float(loss.max())

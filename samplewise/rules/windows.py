"""Slices of ranks: of the step's samples, or between thresholds learned from the losses of past steps."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import TYPE_CHECKING

from samplewise.core.errors import SamplewiseError
from samplewise.core.host import host
from samplewise.core.rule import Ranks, Rule, State
from samplewise.core.samples import Samples
from samplewise.rules.base import descending, keep, make_rule

if TYPE_CHECKING:
    import torch
    from torch import Tensor
else:
    from samplewise.core.lazy import torch

Slice = Callable[[int], tuple[int, int]]
"""The number of samples -> the ranks [start, stop) that are kept, from the highest loss down."""
Check = Callable[[int], SamplewiseError | None]
"""The number of samples -> the error that they are too few for, naming the least number."""


def sliced(
    expression: str, ranks: Slice, check: Check, window: int | None, *, min_samples: int, drops: bool = False
) -> Rule:
    """A rule that keeps a slice of ranks.

    check: what so many samples are too few for. drops: whether all are kept then, which is no error of the step; a rule
        that keeps its slice would be left with nothing.
    window: None for the ranks of each step. A number of steps for thresholds that cut the losses of the last `window`
        steps, taken together, to that slice: until so many were seen by the step's own ranks, pointwise from then on.
    min_samples: the fewest samples that `check` lets pass.
    """
    if window is not None:
        return _windowed(f"{expression[:-1]}, window={window})", ranks, check, whole_window(window))

    def asked(n: int) -> None:
        error = None if drops else check(n)
        if error is not None:
            raise error

    def body(weights: Tensor, samples: Samples, state: State) -> Tensor:
        asked(len(samples))
        start, stop = ranks(len(samples))
        return keep(weights, descending(samples)[start:stop])

    def update(samples: Samples, weights: Tensor, state: State) -> State:
        asked(len(samples))  # a warm-up does not apply the rule at its first step
        return state

    rule = make_rule(
        expression, body, update=update, shortfall=lambda weights, samples, state: check(len(samples)),
        absolute=True,
    )  # fmt: skip
    return rule.ranking((Ranks("highest", ranks, min_samples),))


def _of_a_window(error: SamplewiseError, window: int) -> SamplewiseError:
    """What a rule says of too short a step, said of a window of steps."""
    return SamplewiseError(
        error.argument, expected=error.expected.replace("a step of", f"a window of {window} steps of together", 1),
        got=error.got, remedy=f"{error.remedy[:-1]}, or the window.",
    )  # fmt: skip


def _windowed(expression: str, ranks: Slice, check: Check, window: int) -> Rule:
    """At least one sample is kept in every step.

    State: the losses of the window's steps, oldest first, how many each had, and the thresholds once it is full."""

    def init() -> State:
        empty = torch.zeros(0, dtype=torch.float64)
        return {"losses": empty, "sizes": empty.long(), "low": math.nan, "high": math.nan}

    def factor_ready(state: State) -> bool:
        return not math.isnan(float(state["low"]))

    def inside(loss: Tensor, state: State) -> Tensor:
        return (loss >= float(state["low"])) & (loss <= float(state["high"]))

    def body(weights: Tensor, samples: Samples, state: State) -> Tensor:
        loss = samples.loss
        if not factor_ready(state):
            start, stop = ranks(len(loss))
            return keep(weights, descending(samples)[start : max(stop, start + 1)])
        within = inside(loss, state)
        if not host(within).any():  # the nearest alone: a step needs one
            off = torch.maximum(float(state["low"]) - loss, loss - float(state["high"]))
            within = off == off.min()
        return weights * within.to(weights)

    def update(samples: Samples, weights: Tensor, state: State) -> State:
        sizes = torch.cat([_tensor(state, "sizes"), torch.tensor([len(samples)])])
        losses = torch.cat([_tensor(state, "losses"), samples.loss.double().cpu()])
        losses = losses[int(host(sizes)[:-window].sum()) :]
        low = high = math.nan
        if len(sizes) >= window:
            low, high = _thresholds(losses, ranks)
        return {"losses": losses, "sizes": sizes[-window:], "low": low, "high": high}

    def shortfall(weights: Tensor, samples: Samples, state: State) -> SamplewiseError | None:
        """Of the window's samples; while it fills, of as many as it would hold if all steps were like this one."""
        error = check(len(_tensor(state, "losses")) if factor_ready(state) else window * len(samples))
        return None if error is None else _of_a_window(error, window)

    rule = make_rule(
        expression, body, init=init, update=update, factor_ready=factor_ready, shortfall=shortfall,
        factor=lambda samples, state: inside(samples.loss, state).to(samples.loss), absolute=True,
    )  # fmt: skip

    def first(n: int) -> tuple[int, int]:
        start, stop = ranks(n)
        return start, max(stop, start + 1)

    return rule.ranking((Ranks("highest", first, 0),))


def _thresholds(losses: Tensor, ranks: Slice) -> tuple[float, float]:
    """The lowest and the highest loss of the slice; an end that cuts nothing off is infinite."""
    ordered, n = losses.sort(descending=True).values, len(losses)
    start, stop = ranks(n)
    stop = max(stop, start + 1)
    highest, lowest = ordered[[start, stop - 1]].tolist()
    return lowest if stop < n else -math.inf, highest if start > 0 else math.inf


def _tensor(state: State, key: str) -> Tensor:
    value = state[key]
    assert isinstance(value, torch.Tensor)
    return value


def whole_window(window: object) -> int:
    """`window` as a number of steps."""
    if isinstance(window, bool) or not isinstance(window, int) or window < 1:
        raise SamplewiseError(
            "window", expected="a whole number of steps, at least 1", got=repr(window)[:50],
            remedy="Leave it out to rank within each step.",
        )  # fmt: skip
    return window

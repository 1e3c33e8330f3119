"""Numbers that change over the steps, and rules made of them."""

from __future__ import annotations

import functools
import inspect
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import ParamSpec

from torch import Tensor

from samplewise.rules.base import check_number, under, within
from samplewise.types import Rule, Samples, SamplewiseError, State


@dataclass(frozen=True)
class Schedule:
    """A number that is a function of the step, given to a rule in place of one.

    at: step (0 is the first) -> value. corners: steps between which it is monotone; constant after the last.
    expression: the text that `parse_rule` reads back.
    """

    expression: str
    at: Callable[[int], float]
    corners: tuple[int, ...]

    def __repr__(self) -> str:
        return self.expression


Number = float | Schedule
"""What a rule takes where its number may change over the steps."""

P = ParamSpec("P")


def linear(start: float, end: float, steps: int) -> Schedule:
    """From `start` at the first step to `end` after `steps` steps, in a straight line; `end` from then on.

    Errors: SamplewiseError if a number is not finite, steps is below 1, or start and end have different signs.

    >>> import samplewise as sw
    >>> sw.ir_dro(r=sw.linear(1.0, 0.3, 100))
    ir_dro(r=linear(1.0, 0.3, 100))
    """
    return _between("linear", start, end, steps, lambda done: done)


def cosine(start: float, end: float, steps: int) -> Schedule:
    """From `start` at the first step to `end` after `steps` steps, along half a cosine; `end` from then on.

    Errors: as `linear`.

    >>> import samplewise as sw
    >>> rule = sw.mix_uniform(sw.cosine(0.5, 0.0, 1000))
    """
    return _between("cosine", start, end, steps, lambda done: (1 - math.cos(math.pi * done)) / 2)


def piecewise(*values: float) -> Schedule:
    """Constant pieces: value, step, value, step, …, value. `piecewise(1.0, 100, 0.5)` is 0.5 from step 100 on.

    Errors: SamplewiseError if it does not begin and end with a value, if the steps do not rise from at least 1, or
    if values have different signs.

    >>> import samplewise as sw
    >>> schedule = sw.piecewise(1.0, 100, 0.5, 200, 0.3)
    >>> [schedule.at(step) for step in (0, 99, 100, 250)]
    [1.0, 1.0, 0.5, 0.3]
    """
    if len(values) % 2 == 0:
        raise SamplewiseError(
            "values", expected="value, step, value, …, value", got=f"{len(values)} numbers",
            remedy="piecewise(1.0, 100, 0.5) is 1.0 for 100 steps, then 0.5.",
        )  # fmt: skip
    levels = [_finite("values", value) for value in values[::2]]
    _check_one_side(levels)
    steps: list[int] = []
    for given in values[1::2]:
        steps.append(_whole(given, above=steps[-1] if steps else 0))
    text = [part for level, step in zip(levels, [*steps, 0], strict=True) for part in (str(level), str(step))]
    return Schedule(
        f"piecewise({', '.join(text[:-1])})", lambda step: levels[sum(step >= each for each in steps)], (0, *steps)
    )


SCHEDULES: dict[str, Callable[..., Schedule]] = {"linear": linear, "cosine": cosine, "piecewise": piecewise}


def schedulable(make: Callable[P, Rule]) -> Callable[P, Rule]:
    """Let every number that `make` takes be a schedule: the rule of a step is then `make` with that step's numbers.

    The rule is made for every corner at once, so that a value out of range is an error before the first step.
    """

    @functools.wraps(make)
    def made(*args: P.args, **kwargs: P.kwargs) -> Rule:
        if not any(isinstance(value, Schedule) for value in (*args, *kwargs.values())):
            return make(*args, **kwargs)
        return _scheduled(make, inspect.signature(make).bind(*args, **kwargs).arguments)

    return made


def _scheduled(make: Callable[..., Rule], arguments: Mapping[str, object]) -> Rule:
    changing = {name: value for name, value in arguments.items() if isinstance(value, Schedule)}
    corners = sorted({step for schedule in changing.values() for step in schedule.corners})

    @functools.lru_cache(maxsize=2)  # a rule is asked for its factor once a micro-batch
    def during(step: int) -> Rule:
        return make(**{**arguments, **{name: schedule.at(step) for name, schedule in changing.items()}})

    first, *_ = [during(step) for step in corners]  # every schedule has a corner at step 0

    def now(state: State) -> Rule:
        return during(min(int(state["step"]), corners[-1]))

    def apply(weights: Tensor, samples: Samples, state: State) -> Tensor:
        return now(state).apply(weights, samples, within(state, "rule"))

    def update(samples: Samples, weights: Tensor, state: State) -> State:
        learned = now(state).update(samples, weights, within(state, "rule"))
        return {"step": int(state["step"]) + 1, **under("rule", learned)}

    def factor(samples: Samples, state: State) -> Tensor:
        pointwise = now(state).factor
        assert pointwise is not None, "whether a rule is pointwise does not depend on its numbers"
        return pointwise(samples, within(state, "rule"))

    return Rule(
        f"{make.__name__}({', '.join(f'{name}={value!r}' for name, value in arguments.items())})",
        lambda: {"step": 0, **under("rule", first.init())},
        apply,
        update,
        factor if first.pointwise else None,
        lambda state: now(state).ready(within(state, "rule")),
        first.needs_loss,
        first.needs,
    )


def _between(name: str, start: float, end: float, steps: int, shape: Callable[[float], float]) -> Schedule:
    low, high = _finite("start", start), _finite("end", end)
    _check_one_side([low, high])
    last = _whole(steps, above=0)

    def at(step: int) -> float:
        return high if step >= last else low + (high - low) * shape(step / last)

    return Schedule(f"{name}({low}, {high}, {last})", at, (0, last))


def _finite(name: str, value: object) -> float:
    return check_number(name, value, -math.inf, "a finite number", "For example linear(1.0, 0.3, 100).", above=True)


def _whole(value: object, *, above: int) -> int:
    if isinstance(value, bool) or not isinstance(value, int) or value <= above:
        raise SamplewiseError(
            "steps", expected=f"a whole number above {above}", got=repr(value)[:50],
            remedy="Steps count from the start of the run, warm-ups included.",
        )  # fmt: skip
    return value


def _check_one_side(values: list[float]) -> None:
    """On its way from one sign to the other a number would pass 0, which no temperature may be."""
    if min(values) < 0 < max(values):
        raise SamplewiseError(
            "values", expected="numbers on one side of 0", got=f"{values}", remedy="Stop at a number of the same sign."
        )

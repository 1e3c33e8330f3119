"""Numbers that change over the steps, and rules made of them."""

from __future__ import annotations

import functools
import inspect
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, ParamSpec

from samplewise.core.calls import Call, Called, called
from samplewise.core.errors import SamplewiseError
from samplewise.core.rule import Rule, State
from samplewise.core.samples import Samples
from samplewise.rules.base import check_number, under, within
from samplewise.rules.budget import Steps, in_steps, unresolved
from samplewise.rules.epochs import refuse_epochs

if TYPE_CHECKING:
    from torch import Tensor


@dataclass(frozen=True, eq=False, repr=False)
class Schedule(Called):
    """A number that is a function of the step, given to a rule in place of one.

    at: step (0 is the first) -> value. corners: steps between which it is monotone; constant after the last.
    expression: the text that `parse_rule` reads back.
    for_run_length: total steps of the run -> this schedule with its shares of a run turned into steps; None where it
        has no such shares.
        Until then only step 0 has a value.
    call: the call that makes the schedule: what it is compared, hashed and pickled as.
    """

    expression: str
    at: Callable[[int], float]
    corners: tuple[int, ...]
    for_run_length: Callable[[int], Schedule] | None = None
    call: Call | None = field(default=None, init=False)


Number = float | Schedule
"""What a rule takes where its number may change over the steps."""

P = ParamSpec("P")


def linear(start: float, end: float, steps: Steps) -> Schedule:
    """From `start` at the first step to `end` after `steps` steps, in a straight line; `end` from then on.

    steps: a whole number, or a share of the run in (0, 1]: 1.0 is the whole run, 1 a single step.
    Errors: SamplewiseError if a number is not finite, steps is below 1, or start and end have different signs.

    >>> import samplewise as sw
    >>> sw.ir_dro(r=sw.linear(1.0, 0.3, 100))
    ir_dro(r=linear(1.0, 0.3, 100))
    """
    return _between("linear", start, end, steps)


def cosine(start: float, end: float, steps: Steps) -> Schedule:
    """From `start` at the first step to `end` after `steps` steps, along half a cosine; `end` from then on.

    steps and errors: as `linear`.

    >>> import samplewise as sw
    >>> rule = sw.mix_uniform(sw.cosine(0.5, 0.0, 1000))
    """
    return _between("cosine", start, end, steps)


def piecewise(*values: float) -> Schedule:
    """Constant pieces: value, step, value, step, …, value. `piecewise(1.0, 100, 0.5)` is 0.5 from step 100 on.

    Steps are all whole numbers, or all shares of the run in (0, 1): `piecewise(1.0, 0.8, 0.5)`.
    Errors: SamplewiseError if it does not begin and end with a value, if the steps do not rise, or if values have
    different signs.

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
    steps: list[Steps] = []
    for given in values[1::2]:
        steps.append(_place(given, above=steps[-1] if steps else 0))
    if len({type(step) for step in steps}) > 1:
        raise SamplewiseError("steps", expected="whole numbers only, or shares only", got=f"{steps}", remedy=_EXAMPLE)
    return _pieces(levels, steps)


@called
def _pieces(levels: list[float], steps: Sequence[Steps]) -> Schedule:
    text = [part for level, step in zip(levels, [*steps, 0], strict=True) for part in (str(level), str(step))]
    expression = f"piecewise({', '.join(text[:-1])})"
    if isinstance(steps[0] if steps else 0, float):
        return _share(expression, levels[0], lambda total: _pieces(levels, [in_steps(step, total) for step in steps]))
    corners = [int(step) for step in steps]
    return Schedule(expression, lambda step: levels[sum(step >= each for each in corners)], (0, *corners))


SCHEDULES: dict[str, Callable[..., Schedule]] = {"linear": linear, "cosine": cosine, "piecewise": piecewise}


def schedulable(make: Callable[P, Rule]) -> Callable[P, Rule]:
    """Let every number that `make` takes be a schedule: the rule of a step is then `make` with that step's numbers.

    The rule is made for every corner at once, so that a value out of range is an error before the first step.
    """

    @functools.wraps(make)
    def made(*args: P.args, **kwargs: P.kwargs) -> Rule:
        if not any(isinstance(value, Schedule) for value in (*args, *kwargs.values())):
            return make(*args, **kwargs)
        return _scheduled(make, again, inspect.signature(make).bind(*args, **kwargs).arguments)

    again = called(made)
    return again


def _scheduled(make: Callable[..., Rule], again: Callable[..., Rule], arguments: Mapping[str, object]) -> Rule:
    """make: takes numbers alone; again: the same with schedules, as it is known by."""
    changing = {name: value for name, value in arguments.items() if isinstance(value, Schedule)}
    corners = sorted({step for schedule in changing.values() for step in schedule.corners})
    expression = f"{make.__name__}({', '.join(f'{name}={value!r}' for name, value in arguments.items())})"
    shares = {name: schedule.for_run_length for name, schedule in changing.items() if schedule.for_run_length}

    def for_run_length(total: int) -> Rule:
        return again(**{**arguments, **{name: known(total) for name, known in shares.items()}})

    @functools.lru_cache(maxsize=2)  # a rule is asked for its factor once a micro-batch
    def during(step: int) -> Rule:
        return make(**{**arguments, **{name: schedule.at(step) for name, schedule in changing.items()}})

    if shares:
        for_run_length(1000)  # any length shows whether a number goes out of range
    first, *_ = [during(step) for step in corners if step == 0 or not shares]  # every schedule has a corner at step 0

    refuse_epochs(first, "with a number that changes over the steps")

    def now(state: State) -> Rule:
        step = int(state["step"])
        if shares and step > 0:
            raise unresolved(expression)
        return during(min(step, corners[-1]))

    def apply(weights: Tensor, samples: Samples, state: State) -> Tensor:
        return now(state).apply(weights, samples, within(state, "rule"))

    def update(samples: Samples, weights: Tensor, state: State) -> State:
        learned = now(state).update(samples, weights, within(state, "rule"))
        return {"step": int(state["step"]) + 1, **under("rule", learned)}

    def factor(samples: Samples, state: State) -> Tensor:
        pointwise = now(state).factor
        assert pointwise is not None, "whether a rule is pointwise does not depend on its numbers"
        return pointwise(samples, within(state, "rule"))

    return replace(
        first,
        expression=expression,
        init=lambda: {"step": 0, **under("rule", first.init())},
        apply=apply,
        update=update,
        factor=factor if first.pointwise else None,
        factor_ready=lambda state: now(state).factor_ready(within(state, "rule")),
        for_run_length=for_run_length if shares else None,
        shortfall=lambda weights, samples, state: now(state).shortfall(weights, samples, within(state, "rule")),
        remembers=True,
    )


SHAPES: dict[str, Callable[[float], float]] = {
    "linear": lambda done: done,
    "cosine": lambda done: (1 - math.cos(math.pi * done)) / 2,
}


@called
def _between(name: str, start: float, end: float, steps: Steps) -> Schedule:
    low, high = _finite("start", start), _finite("end", end)
    _check_one_side([low, high])
    last = _place(steps, above=0, end=True)
    if isinstance(last, float):
        return _share(
            f"{name}({low}, {high}, {last})", low,
            lambda total: _between(name, low, high, in_steps(last, total)),
        )  # fmt: skip

    def at(step: int) -> float:
        return high if step >= last else low + (high - low) * SHAPES[name](step / last)

    return Schedule(f"{name}({low}, {high}, {last})", at, (0, last))


def _finite(name: str, value: object) -> float:
    return check_number(name, value, -math.inf, "a finite number", "For example linear(1.0, 0.3, 100).", above=True)


def _share(expression: str, first: float, for_run_length: Callable[[int], Schedule]) -> Schedule:
    """A schedule over a share of the run."""

    def at(step: int) -> float:
        if step > 0:
            raise unresolved(expression)
        return first

    return Schedule(expression, at, (0,), for_run_length)


_EXAMPLE = "For example linear(1.0, 0.3, 100); linear(1.0, 0.3, 0.5) is over half of the run."


def _place(value: object, *, above: float, end: bool = False) -> Steps:
    """A number of steps, or a share of the run; `end`: also all of it."""
    share = isinstance(value, float) and (above < value < 1 or (end and value == 1))
    if not share and (isinstance(value, bool) or not isinstance(value, int) or value <= above):
        raise SamplewiseError(
            "steps", expected=f"a whole number above {above}, or a share of the run above that and below 1",
            got=repr(value)[:50], remedy=f"Steps count from the start of the run, warm-ups included. {_EXAMPLE}",
        )  # fmt: skip
    assert isinstance(value, (int, float))
    return value


def _check_one_side(values: list[float]) -> None:
    """On its way from one sign to the other a number would pass 0, which no temperature may be."""
    if min(values) < 0 < max(values):
        raise SamplewiseError(
            "values",
            expected="numbers on one side of 0",
            got=f"{values}",
            remedy="End the schedule at a number of the same sign.",
        )

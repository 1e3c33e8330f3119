"""Shares of the run: numbers that mean a number of steps once the length of the run is known."""

from __future__ import annotations

from collections.abc import Callable

from samplewise.core.errors import SamplewiseError
from samplewise.core.rule import Rule

Steps = int | float
"""A whole number of optimizer steps, or a share of the run in (0, 1)."""


Share = float
"""A share of the run, which no schedule can change."""


def resolve(rule: Rule, total_steps: int) -> Rule:
    """The rule for a run of `total_steps` optimizer steps: every share of the run in it as a whole number of steps.

    A rule without such shares comes back as it is. To be called once, before the rule's first step.
    Errors: SamplewiseError if total_steps is not a whole number above 0, as for a run whose length is not known.

    >>> import samplewise as sw
    >>> resolve(sw.ir_dro(r=sw.linear(1.0, 0.3, 0.5)), 1000)
    ir_dro(r=linear(1.0, 0.3, 500))
    """
    if rule.for_run_length is None:
        return rule
    if isinstance(total_steps, bool) or not isinstance(total_steps, int) or total_steps < 1:
        raise SamplewiseError(
            "total_steps", expected="the number of steps of the run, above 0", got=repr(total_steps),
            remedy=f"Write the shares of the run in {rule} in steps.",
        )  # fmt: skip
    return rule.for_run_length(total_steps)


def in_steps(steps: Steps, total: int) -> int:
    """A share of the run as steps, at least 1; steps as they are."""
    return max(1, round(steps * total)) if isinstance(steps, float) else steps


def any_for_run_length(make: Callable[[int], Rule], *rules: Rule) -> Callable[[int], Rule] | None:
    """`make`, if one of the rules has shares of the run in it."""
    return make if any(rule.for_run_length for rule in rules) else None


def unresolved(expression: str) -> SamplewiseError:
    """The error of a rule with shares of the run that reaches its second step without knowing the run's length."""
    return SamplewiseError(
        "steps", expected="steps, or the length of the run to take shares of", got=expression,
        remedy="samplewise.rules.resolve(rule, total_steps) gives the rule for a run of that length.",
    )  # fmt: skip

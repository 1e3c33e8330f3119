"""Rules that decide once an epoch which samples its order has: how they are put together, and where they cannot be."""

from __future__ import annotations

from typing import TYPE_CHECKING

from samplewise.core.errors import SamplewiseError
from samplewise.core.rule import ByEpoch, Epoch, Rule, State
from samplewise.rules.base import under, within

if TYPE_CHECKING:
    from torch import Tensor


def chained(rules: tuple[Rule, ...]) -> ByEpoch | None:
    """The once-an-epoch part of a chain: all that its rules do; None if no rule does anything."""
    own = {number: rule.epochs for number, rule in enumerate(rules) if rule.epochs is not None}
    if not own:
        return None

    def begin(epoch: Epoch, state: State) -> State:
        new = dict(state)
        for number, each in own.items():
            new |= under(number, each.begin(epoch, within(state, number)))
        return new

    def keeps(ids: Tensor, state: State) -> Tensor:
        first, *others = (each.keeps(ids, within(state, number)) for number, each in own.items())
        for other in others:
            first = first & other
        return first

    until, needs_loss = max(each.until for each in own.values()), any(each.needs_loss for each in own.values())
    return ByEpoch(begin, keeps, until, needs_loss)


def refuse_token_rule(rule: Rule, where: str) -> None:
    """Errors: SamplewiseError if a token rule stands in `rule`: `where` it is, only samples are weighed."""
    if rule.token_rule is not None:
        raise SamplewiseError(
            "rule", expected=f"a rule over samples alone, {where}", got=repr(rule),
            remedy=f"Leave {rule.token_rule} out, or put it into the outermost chain of a trainer's rule.",
        )  # fmt: skip


def refuse_epochs(rule: Rule, where: str) -> None:
    """Errors: SamplewiseError if `rule` decides once an epoch: `where` it is, nothing would run that part."""
    if rule.epochs is not None:
        raise SamplewiseError(
            "rule", expected=f"a rule that works step by step, {where}", got=repr(rule),
            remedy='Use scope="step" here, or WeightedTrainer with this rule alone or in a chain.',
        )  # fmt: skip

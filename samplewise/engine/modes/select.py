"""Which mode runs a step: the cheapest one that is exact for the rule and the loop."""

from __future__ import annotations

from samplewise.engine.context import StepContext
from samplewise.engine.modes.base import Mode
from samplewise.engine.modes.micro import Micro
from samplewise.engine.modes.one_pass import OnePass
from samplewise.engine.modes.two_pass import TwoPass
from samplewise.engine.modes.without_scoring import WithoutScoring


def select_mode(context: StepContext, *, normalize: str = "step", can_rescale: bool = True) -> Mode:
    """The cheapest mode that is exact for the next step.

    can_rescale: False where gradients cannot be multiplied between backward and clipping (DeepSpeed).
    """
    if normalize == "micro":
        return Micro(context)
    rule, tokens = context.rule, context.token_rule
    if not rule.needs_loss and (tokens is None or tokens.reweighs):
        return WithoutScoring(context)
    within_samples = tokens is None or tokens.scope == "sample"
    if can_rescale and within_samples and not context.own_term and rule.pointwise and rule.factor_ready(context.state):
        return OnePass(context)
    return TwoPass(context)

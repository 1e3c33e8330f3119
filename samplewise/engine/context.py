"""What the parts of one step share: the rule with its state, the forward, the ranks' common numbers."""

from __future__ import annotations

from dataclasses import dataclass, field

import torch

from samplewise.core.clock import Clock
from samplewise.core.rule import Rule, State
from samplewise.core.token_rule import TokenRule
from samplewise.engine.plan import Per, StepNorm
from samplewise.losses.forward import Forward


@dataclass(frozen=True, kw_only=True)
class StepContext:
    """Everything about a step but its micro-batches; the same on every rank.

    step: its number, from 1. rule, state: the state is that before the step.
    capacity: rows (of packed ones: tokens) that a micro-batch that is trained on may hold.
    unit: brings unnormalized weights near 1/N, so that gradients before the division are of the size of those after it.
    scale: multiplies the objective and the reported loss: what the loop's own divisor differs by.
    own_term: the model adds a loss term of its own, which a factor on all gradients would scale too.
    allow_negative: whether the data's weights may be below 0. norm: what the step is divided by (`plan.normalizer`).
    token_rule: which tokens of the samples count, before the rule weighs samples; None: all that are predicted.
    """

    step: int
    rule: Rule
    state: State
    forward: Forward
    device: torch.device
    capacity: int
    per: Per = "sample"
    max_nonfinite: float = 0.01
    unit: float = 1.0
    scale: float = 1.0
    own_term: bool = False
    allow_negative: bool = False
    norm: StepNorm = "weights"
    token_rule: TokenRule | None = None
    clock: Clock = field(default_factory=Clock)

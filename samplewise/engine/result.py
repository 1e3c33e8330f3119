"""The result of a finished step, as observers see it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from torch import Tensor

from samplewise.core import notebook
from samplewise.core.errors import SamplewiseError
from samplewise.core.rule import Rule, State
from samplewise.core.samples import Samples


@dataclass(frozen=True, kw_only=True)
class StepResult:
    """One optimizer step, the same on every rank but for seconds, router and fallbacks.

    step: its number, from 1. rule: that weighed it; state: after it. mode, passes: how it ran.
    loss: what the loop reports, the unweighted mean in its own terms. figures: as in `Plan.figures`.
    samples: all N of all ranks; weights: [N] mean size 1 over those weighed, 0 where left out; weighed: how many were.
    nonfinite: ids left out for a loss that is not finite. shortfall: what the rule could not do in a step of so few
    samples. retried: whether a first pass was discarded.
    tokens: predicted tokens of the samples trained on. units: what it cost: 1 for each token of a forward, 2 for each
        of a backward, the reference model's forward and a discarded pass included. reference_tokens: those of them that
        went through the reference model.
    seconds: wall time by phase of this step on this rank. router: of each micro-batch of this rank, the
        load-balancing loss before its coefficient, where the model has a router.
    fallbacks: on this rank, the calls of the kernels, a forward of a micro-batch each, in which others stepped in for
        the device's best, by the reason why; those of a first check and of a reference model are among them.
    """

    step: int
    rule: Rule
    state: State
    mode: str
    passes: float
    loss: float
    figures: dict[str, float]
    samples: Samples
    weights: Tensor
    weighed: int
    nonfinite: list[int] = field(default_factory=list)
    shortfall: SamplewiseError | None = None
    retried: bool = False
    tokens: int = 0
    units: int = 0
    reference_tokens: int = 0
    seconds: Mapping[str, float] = field(default_factory=dict)
    router: list[Tensor] = field(default_factory=list)
    fallbacks: Mapping[str, int] = field(default_factory=dict)

    def _repr_html_(self) -> str:
        """How the step ran, and its figures."""
        ran = {"rule": repr(self.rule), "mode": self.mode, "passes": self.passes, "tokens trained on": self.tokens}
        return notebook.table({**ran, **self.figures}, f"step {self.step}")

"""`normalize="micro"`: what published code does, kept for comparison. Weights sum to 1 per micro-batch and rank."""

from __future__ import annotations

import logging

import torch
from torch import Tensor

from samplewise.distributed import gather_fields
from samplewise.step import Plan, plan_step
from samplewise.types import Rule, Samples, SamplewiseError, State

logger = logging.getLogger("samplewise")


def check_micro_batch(rows: int) -> None:
    """Warn about the mode. Errors: SamplewiseError for micro-batches of one row, where every weight is 1."""
    if rows < 2:
        raise SamplewiseError(
            "normalize", expected="'step', or micro-batches of at least 2 rows", got=f"'micro' with {rows}",
            remedy="Alone in its micro-batch a sample always has weight 1: no weighting at all.",
        )  # fmt: skip
    logger.warning(
        "normalize='micro': weights are normalised within each micro-batch of %d rows and each rank, so they depend on "
        "how the step is split. normalize='step' is exact.", rows
    )  # fmt: skip


class MicroStep:
    """The micro-batches of one step under `normalize="micro"`, and the rule's one update at its end."""

    def __init__(self, rule: Rule) -> None:
        self.rule = rule
        self.plans: list[Plan] = []
        self.fields: list[dict[str, Tensor]] = []

    def coefficients(self, losses: Tensor, tokens: Tensor, ids: Tensor, mass: Tensor | None, state: State) -> Tensor:
        """[B] coefficients that sum to 1 over the micro-batch (0 for one without a predicted token)."""
        fields = {"loss": losses.detach().double().cpu(), "tokens": tokens.cpu(), "id": ids.cpu()}
        self.fields.append(fields)
        if not bool((fields["tokens"] > 0).any()):
            return torch.zeros_like(losses)
        plan = plan_step(self.rule, Samples(**fields), state, mass=mass, max_nonfinite=0.0)
        self.plans.append(plan)
        return plan.coefficients.to(losses)

    def finish(self, state: State, device: torch.device) -> tuple[State, dict[str, float]]:
        """The state after the step, updated with all samples of all ranks, and this rank's mean figures."""
        joined = {name: torch.cat([fields[name] for fields in self.fields]) for name in self.fields[0]}
        step, _ = gather_fields(joined, device)
        order = torch.argsort(step["id"], stable=True)
        samples = Samples(**step).select(order[step["tokens"][order] > 0])
        new = self.rule.update(samples, torch.ones_like(samples.loss), state)
        names = self.plans[0].figures if self.plans else {}
        return new, {name: sum(p.figures[name] for p in self.plans) / len(self.plans) for name in names}

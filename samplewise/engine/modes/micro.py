"""`normalize="micro"`: weights sum to 1 per micro-batch and rank, as published code has it. Another estimator."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from samplewise.core.distributed import gather_fields
from samplewise.core.errors import SamplewiseError
from samplewise.core.host import host, positions
from samplewise.core.micro_batch import MicroBatch
from samplewise.core.weighing import no_token_in_step
from samplewise.engine.context import StepContext
from samplewise.engine.modes.base import Mode, samples_of, step_fields
from samplewise.engine.plan import Plan, plan_step
from samplewise.losses.own_terms import has_own_term


def refuse_own_term(model: nn.Module) -> None:
    """Errors: SamplewiseError for a model that adds a term to its loss, which `Micro` would leave out."""
    if has_own_term(model):
        raise SamplewiseError(
            "normalize", expected="'step' for a model with a loss term of its own", got="'micro'",
            remedy="Two passes keep the term; output_router_logits=False (a router's) or orth_reg_weight=0 "
            "(AdaLoRA's) trains without it.",
        )  # fmt: skip


class Micro(Mode):
    """One pass, for comparison with published code alone: its weights depend on how the step is split."""

    name = "micro"
    passes = 0.0  # in the log, where the mean number of passes stands

    def __init__(self, context: StepContext) -> None:
        super().__init__(context)
        self.parts: list[dict[str, Tensor]] = []
        self.plans: list[Plan] = []

    def begin(self, model: nn.Module, batches: list[MicroBatch]) -> list[MicroBatch]:
        """All of them, as they are."""
        return self._marked(batches)

    def objective(self, model: nn.Module, micro: MicroBatch) -> Tensor:
        """Σ weight × loss with weights of this micro-batch alone, over the number of micro-batches."""
        losses, tokens = self.context.forward.losses(model, micro, differentiable=True)
        fields = step_fields([micro], losses, tokens)
        _check_finite(fields)
        weights = coefficients = torch.zeros_like(fields["loss"])
        if host(fields["tokens"]).any():
            plan = plan_step(
                self.context.rule,
                samples_of(fields),
                self.context.state,
                base_weight=fields["base_weight"],
                max_nonfinite=0.0,
                allow_negative=self.context.allow_negative,
                norm=self.context.norm,
            )
            self.plans.append(plan)
            weights, coefficients = plan.weights, plan.coefficients
        self.parts.append({**fields, "given": weights})
        if micro.last:
            with self.context.clock.timed("rule"):
                self._settle()
        return (coefficients.to(losses) * losses).sum() / self.count

    @property
    def weighed(self) -> int:
        """How many samples were weighed, in all micro-batches."""
        return len(self.samples)

    @property
    def trained_tokens(self) -> int:
        """Of all samples: those of weight 0 run too."""
        return self.all_tokens

    def _settle(self) -> None:
        """One update of the rule, with all samples of all ranks; figures are means over this rank's micro-batches."""
        if not self.plans:
            raise no_token_in_step()
        step, _ = gather_fields({k: torch.cat([p[k] for p in self.parts]) for k in self.parts[0]}, self.context.device)
        order = torch.argsort(step["id"], stable=True)
        present = order[positions(step["tokens"][order] > 0)]
        samples = self.samples = samples_of(step).select(present)
        self.all_tokens = self.run_tokens = int(host(samples.tokens).sum())
        state = self.context.rule.update(samples, torch.ones_like(samples.loss), self.context.state)
        names, n = self.plans[0].figures, len(self.plans)
        figures = {name: sum(plan.figures[name] for plan in self.plans) / n for name in names}
        given = step["given"][present]
        self.plan = Plan(given, given, figures, state, [])


def _check_finite(fields: dict[str, Tensor]) -> None:
    bad = (fields["tokens"] > 0) & ~torch.isfinite(fields["loss"])
    if host(bad).any():
        raise SamplewiseError(
            "loss", expected="finite losses with normalize='micro'", got=f"others, ids {fields['id'][bad].tolist()}",
            remedy="Use normalize='step', which can leave such rows out, or remove them.",
        )  # fmt: skip

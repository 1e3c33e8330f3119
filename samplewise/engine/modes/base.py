"""What every way to run a step has: its plan, its objective, and what it cost.

A mode is made for one step: `begin` turns the micro-batches into those to run, `objective` is called in each one's
forward, `end` once after the last backward, before clipping. Gradients are averaged over ranks by DDP and FSDP2, so
objectives are multiplied by the number of ranks.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from typing import ClassVar

import torch
from torch import Tensor, nn

from samplewise.core.distributed import gather_fields, world_size
from samplewise.core.host import exact_dtype, host
from samplewise.core.micro_batch import RULE_FIELDS, MicroBatch
from samplewise.core.samples import Samples
from samplewise.engine.context import StepContext
from samplewise.engine.exchange import dealt
from samplewise.engine.plan import Plan, plan_step
from samplewise.losses.forward import ForwardResult


class RetryInTwoPasses(Exception):  # noqa: N818 - not an error: the one way back
    """A step's unnormalized weights cannot be used: no parameter has moved; the micro-batches go to `TwoPass`.

    objective: [] of the last micro-batch; its graph is kept for hosts that must end every forward with a backward.
    """

    def __init__(self, reason: str, objective: Tensor) -> None:
        super().__init__(reason)
        self.objective = objective


class Mode(ABC):
    """One step under way. `plan` and `samples` (of all ranks, in the plan's order) are there after the last objective.

    all_tokens: predicted tokens of the step on all ranks, before a token rule leaves any out; of these scored_tokens
    went through a forward alone, and run_tokens through forward and backward.
    """

    name: ClassVar[str]
    passes: ClassVar[float] = 1.0
    plan: Plan
    samples: Samples
    all_tokens = scored_tokens = run_tokens = 0

    def __init__(self, context: StepContext) -> None:
        self.context = context
        self.count = 0  # micro-batches to run
        self.router: list[Tensor] = []  # its load-balancing loss before the coefficient, of each that runs
        self.own: Tensor | float = 0.0  # the terms that the model and its adapters add, averaged over those that run
        self.predicting = 1  # micro-batches of all ranks that predict anything: only those have such terms

    @abstractmethod
    def begin(self, model: nn.Module, batches: list[MicroBatch]) -> list[MicroBatch]:
        """The micro-batches to run, at most as many, as many on every rank."""

    @abstractmethod
    def objective(self, model: nn.Module, micro: MicroBatch) -> Tensor:
        """[] the loss to call backward on. Errors: RetryInTwoPasses in the last micro-batch of the step."""

    def end(self, parameters: Callable[[], Iterable[Tensor]]) -> None:  # noqa: B027 - most have nothing to divide
        """After the last backward, before clipping."""

    @property
    def loss(self) -> float:
        """The unweighted mean loss of the step and the model's own terms, as the loop would report it."""
        return self.plan.figures["loss"] * self.context.scale + float(self.own)

    @property
    def weighed(self) -> int:
        """How many samples the rule weighed in this step."""
        return int(self.plan.figures["samples"])

    @property
    def trained_tokens(self) -> int:
        """Predicted tokens of the samples trained on, those that a token rule leaves."""
        return int(host(self.samples.tokens)[host(self.plan.weights) != 0].sum())

    def _marked(self, trained: list[MicroBatch]) -> list[MicroBatch]:
        self.count = len(trained)
        return [*trained[:-1], replace(trained[-1], last=True)]

    def _planned(self, step: dict[str, Tensor]) -> Plan:
        """The plan from every rank's fields, the same on each."""
        context, self.samples = self.context, samples_of(step)
        before = host(step.get("tokens_before", step["tokens"]))
        self.all_tokens = int(before.sum())
        plan = plan_step(
            context.rule,
            self.samples,
            context.state,
            base_weight=step["base_weight"],
            max_nonfinite=context.max_nonfinite,
            allow_negative=context.allow_negative,
            norm=context.norm,
        )
        if "tokens_before" not in step:
            return plan
        kept = float(host(step["tokens"]).sum() / max(before.sum(), 1))
        return replace(plan, figures={**plan.figures, "tokens_kept": kept})

    def _begin(self, batches: list[MicroBatch], loss: Tensor, tokens: Tensor) -> list[MicroBatch]:
        """Plan from these losses [n] and counts [n] of this rank's samples, and deal the kept rows."""
        context = self.context
        with context.clock.timed("rule"):
            step, spans = gather_fields(step_fields(batches, loss, tokens), context.device)
            self.plan = self._planned(step)
            run = host(step.get("tokens_before", step["tokens"]))
            self.run_tokens = int(run[host(self.plan.coefficients) != 0].sum())
            coefficients = [self.plan.coefficients[span] for span in spans]
            trained = dealt(batches, coefficients, context.capacity, context.device)
            if context.own_term:
                self.predicting = _predicting(trained, context.device)
            return self._marked(trained)

    def _known(self, model: nn.Module, micro: MicroBatch, tally: bool) -> tuple[Tensor, ForwardResult]:
        """Σ coefficient × loss, for coefficients that sum to 1 over the step; and the model's own term, if any.

        × ranks, since DDP and FSDP2 average gradients over them.
        """
        assert micro.coefficient is not None, "the plan was made in begin"
        factors = micro.coefficient * (world_size() * self.context.scale)  # on the host, which says whose are 0
        token_rule = self.context.token_rule
        select = token_rule if token_rule is not None and token_rule.reweighs else None  # others have chosen before
        out = self.context.forward.objective(model, micro, factors, tally=tally, select=select)
        if out.router is not None:
            self.router.append(out.router)
        if out.aux is None:
            return out.value, out
        own = out.aux * (world_size() / self.predicting)
        self.own = self.own + own.detach()
        return out.value + own, out


def _predicting(batches: Sequence[MicroBatch], device: torch.device) -> int:
    """How many micro-batches of all ranks hold a sample: a rank that is short of rows runs blank ones."""
    held = sum(bool(host(micro.coefficient).any()) for micro in batches if micro.coefficient is not None)
    return max(1, int(host(gather_fields({"held": torch.tensor([held])}, device)[0]["held"]).sum()))


def step_fields(batches: Sequence[MicroBatch], loss: Tensor, tokens: Tensor) -> dict[str, Tensor]:
    """What is gathered of this rank's samples: fp64 or int64, [n] each, on the host."""
    names = ("id", "base_weight", "tokens_before", *RULE_FIELDS)
    fields = [micro.sample_fields() for micro in batches]
    known = {name: torch.cat([own[name] for own in fields]) for name in names if name in fields[0]}
    exact = exact_dtype(loss.device)  # counts are exact in either
    both = torch.stack([loss.detach().to(exact), tokens.to(exact)]).cpu().double()  # one copy
    return {"loss": both[0], "tokens": both[1].round().to(torch.int64), **known}


def samples_of(step: dict[str, Tensor]) -> Samples:
    """The samples of all ranks from what was gathered."""
    more = {name: step[name] for name in RULE_FIELDS if name in step}
    return Samples(step["loss"], step["tokens"], step["id"], **more)

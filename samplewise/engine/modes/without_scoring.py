"""One pass for rules that need no loss: rows are chosen before any forward, the losses come with the training."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import torch
from torch import Tensor, nn

from samplewise.core.distributed import gather_fields
from samplewise.core.host import host, positions, wide
from samplewise.core.micro_batch import MicroBatch
from samplewise.core.rule import State
from samplewise.engine.base_weights import counts_of
from samplewise.engine.context import StepContext
from samplewise.engine.modes.base import Mode, RetryInTwoPasses
from samplewise.engine.modes.parts import Parts
from samplewise.engine.plan import learned, mean_loss


class WithoutScoring(Mode):
    """Forward and backward of the kept samples alone."""

    name = "one_pass"

    def __init__(self, context: StepContext) -> None:
        super().__init__(context)
        self.parts = Parts()

    def begin(self, model: nn.Module, batches: list[MicroBatch]) -> list[MicroBatch]:
        """Plans from ids and token counts, deals the kept rows."""
        tokens = torch.cat([counts_of(micro).cpu() for micro in batches])
        return self._begin(batches, torch.zeros(len(tokens)), tokens)

    def objective(self, model: nn.Module, micro: MicroBatch) -> Tensor:
        """Σ coefficient × loss; the losses are known after the last one."""
        value, out = self._known(model, micro, tally=True)
        self.parts.add(micro, out)
        if micro.last:
            with self.context.clock.timed("rule"):
                self._settle(value)
        return value

    def _settle(self, objective: Tensor) -> None:
        """Fill in the losses, which are those of the samples trained on."""
        step, _ = gather_fields(self.parts.fields(), self.context.device)
        run = positions(step["coefficient"] != 0)
        loss, base_weight, coefficient = step["loss"][run], step["base_weight"][run], step["coefficient"][run]
        if not np.isfinite(host(loss)).all():
            raise RetryInTwoPasses("a loss is not finite", objective)
        if not len(run):  # chance has dropped them all
            return
        self.samples = replace(self.samples, loss=_filled(self.samples.id, step, run))
        means = {
            "loss": mean_loss(loss, base_weight),
            "weighted_loss": float(wide(loss) @ wide(coefficient)),
        }
        self.plan = replace(self.plan, figures=self.plan.figures | means, state=self._learned())

    def _learned(self) -> State:
        """The rule's state, now that the losses are known."""
        return learned(self.context.rule, self.samples, self.context.state)


def _filled(ids: Tensor, step: dict[str, Tensor], run: Tensor) -> Tensor:
    """[N] losses of the samples that were trained on, by id; NaN for those that were not."""
    name, order = step["id"][run].sort(stable=True)
    at = torch.searchsorted(name, ids).clamp(max=len(name) - 1)
    return torch.where(name[at] == ids, step["loss"][run][order][at], math.nan)

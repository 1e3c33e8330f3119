"""Losses known before a step, from a column or from each sample's last visit, and whether they still hold."""

from __future__ import annotations

import logging
from collections.abc import Sequence

import torch
from torch import Tensor

from samplewise.core.distributed import gather_fields
from samplewise.core.micro_batch import MicroBatch
from samplewise.core.rule import State
from samplewise.engine.loss_memory import LossMemory
from samplewise.engine.observers import StatelessObserver
from samplewise.engine.result import StepResult
from samplewise.engine.staleness import Staleness
from samplewise.rules.base import under, within

logger = logging.getLogger("samplewise")

MEMORY_KEY, STALENESS_KEY = "samplewise_memory", "samplewise_staleness"
"""Where their state stands in a checkpoint; steps of the memory are counted from 0 there, from 1 everywhere else."""


class LossHistory(StatelessObserver):
    """What is remembered between steps: the same on every rank. An observer of steps, and what `Stored` plans from.

    minimum: below this rank correlation of stored and fresh losses a step's samples are scored afresh.
    """

    def __init__(self, minimum: float) -> None:
        self.minimum = minimum
        self.memory, self.staleness = LossMemory(), Staleness()
        self.pending: tuple[Tensor, Tensor] | None = None  # stored losses of a step that is scored, in its plan's order
        self.was_stale = False

    def look_up(self, micro: MicroBatch) -> tuple[Tensor, Tensor]:
        """([n] stored losses, nats/token, NaN where there is none; [n] the steps they are of, 0 for a column)."""
        if micro.stored_loss is not None:
            return micro.stored_loss.double(), torch.zeros(len(micro), dtype=torch.int64)
        return self.memory.look_up(micro.id)

    def is_stale(self, step: int) -> bool:
        """Whether stored losses rank samples differently now; said in the log when it changes."""
        stale = self.staleness.stale(self.minimum)
        if stale != self.was_stale:
            self.was_stale = stale
            logger.warning(
                "step %d: stored and fresh losses have a rank correlation of %.2f: %s", step,
                self.staleness.figures["stored_corr"],
                "samples are scored afresh" if stale else "stored losses are used again",
            )  # fmt: skip
        return stale

    def compare_later(self, batches: Sequence[MicroBatch], device: torch.device) -> None:
        """Look up a step that is going to be scored afresh: the only way back to stored losses is that they fit."""
        found = [self.look_up(micro) for micro in batches]
        fields = {name: torch.cat([each[k] for each in found]) for k, name in enumerate(("stored", "of_step"))}
        step, _ = gather_fields(fields, device)
        self.pending = step["stored"], step["of_step"]

    def compare(self, probed: dict[str, Tensor], step: int) -> None:
        """Take in samples of all ranks that were scored beside their stored loss: id, stored, fresh, of_step [n]."""
        self.staleness.add(probed["stored"], probed["fresh"], step - probed["of_step"])
        self.memory.store(probed["id"], probed["fresh"], step)

    def on_begin(self, step: int) -> None:
        """Does nothing: every run has its own history, and a checkpoint's is loaded before."""

    def flush(self) -> None:
        """Does nothing: the history writes no files."""

    def on_step(self, result: StepResult) -> None:
        """Remember the losses of a finished step's samples."""
        if self.pending is not None:
            stored, of_step = self.pending
            self.staleness.add(stored, result.samples.loss, result.step - of_step)
            self.pending = None
        self.memory.store(result.samples.id, result.samples.loss, result.step)

    def state_dict(self) -> State:
        """The losses of the last visits and the pairs compared so far, for a checkpoint."""
        memory = self.memory.state()
        memory["steps"] -= 1
        return {**under(MEMORY_KEY, memory), **under(STALENESS_KEY, self.staleness.state())}

    def load_state_dict(self, state: State) -> None:
        """Restore what `state_dict` returned; a checkpoint without it changes nothing."""
        memory = within(state, MEMORY_KEY)
        if isinstance(memory.get("ids"), Tensor):
            self.memory = LossMemory.from_state(memory)
            self.memory.steps += 1
            self.staleness = Staleness.from_state(within(state, STALENESS_KEY))

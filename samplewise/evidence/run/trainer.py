"""The trainer of a run: a weighted trainer that keeps a history, and keeps it in its checkpoints."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from transformers import Trainer

from samplewise.core.columns import ID, SEGMENTS
from samplewise.engine.figures import PREFIX
from samplewise.engine.modes import LossFree, Micro, Mode, TwoPass
from samplewise.evidence.run.history import History
from samplewise.losses.token_losses import token_counts
from samplewise.rules.groups import group_weights
from samplewise.trainers import WeightedMixin, WeightedTrainer


class HistoryMixin(WeightedMixin, Trainer):
    """Adds `history`: the curves, the weights' histogram, tokens trained and seconds by phase."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        self.history = History()
        self._logged = 0  # the step of the last log, since seconds are logged as means
        self._wasted = 0  # units of a pass that was discarded
        super().__init__(*args, **kwargs)

    def train(self, *args: Any, **kwargs: Any) -> Any:
        """The host's `train`; the last seconds are added up at its end."""
        result = super().train(*args, **kwargs)
        self._take_seconds(self._figures.flush())
        return result

    def _begin(self, checkpoint: Path | None) -> None:
        self.history = History() if checkpoint is None else History.load(checkpoint)
        self._logged, self._wasted = self.history.steps, 0
        super()._begin(checkpoint)

    def _close(self, mode: Mode) -> Tensor:
        report = super()._close(mode)
        plans = getattr(mode, "plans", [mode.plan])  # normalize="micro" has one for each micro-batch
        samples = sum(int(plan.figures["samples"]) for plan in plans)
        weights = torch.cat([plan.weights.cpu() for plan in plans])
        tokens = _tokens_trained(mode)
        units = self._units(mode, tokens) + self._wasted
        self.history.add(mode.plan.figures, weights, samples, tokens, units)
        if "group" in self.rule.needs:
            self.history.add_groups(group_weights(self.rule_state))
        self._wasted = 0
        return report

    def _units(self, mode: Mode, trained: int) -> int:
        """The step's cost; a reference model's forward is one unit for each token, and tokens left out still run."""
        counts = [token_counts(batch["labels"], segments=batch.get(SEGMENTS)).cpu() for batch in self._batches]
        read = sum(int(each.sum()) for each in counts)
        other = read if self._referred else 0
        if self.token_rule is None:
            return _units(mode, trained) + other + getattr(mode, "scored_tokens", 0)
        if not isinstance(mode, TwoPass):
            return 3 * read + other
        kept = mode.samples.id[mode.plan.weights.cpu() > 0]
        run = (each[torch.isin(batch[ID].cpu(), kept)] for batch, each in zip(self._batches, counts, strict=True))
        return read + 3 * sum(int(each.sum()) for each in run) + other

    def _redo(self, *args: Any, **kwargs: Any) -> None:
        self._wasted = 3 * sum(int(token_counts(batch["labels"]).sum()) for batch in self._batches)
        super()._redo(*args, **kwargs)

    def _save_ours(self, folder: Path) -> None:
        self.history.save(folder)
        super()._save_ours(folder)

    def log(self, logs: dict[str, float], *args: Any, **kwargs: Any) -> None:
        """The host's log; the seconds in it are added up."""
        super().log(logs, *args, **kwargs)
        if "loss" in logs:
            self._take_seconds(self.state.log_history[-1])

    def _take_seconds(self, logged: dict[str, float]) -> None:
        steps, self._logged = self.history.steps - self._logged, self.history.steps
        for name, seconds in logged.items():
            if name.startswith(f"{PREFIX}seconds_"):
                self.history.spend(name.removeprefix(f"{PREFIX}seconds_"), seconds * steps)


class RunTrainer(HistoryMixin, WeightedTrainer):
    """`WeightedTrainer` with a history."""


def _tokens_trained(mode: Mode) -> int:
    """Predicted tokens of the samples that went through forward and backward."""
    if isinstance(mode, Micro):
        return sum(int(part["tokens"].sum()) for part in mode.parts)
    return int(mode.samples.tokens[mode.plan.weights.cpu() > 0].sum())


def _units(mode: Mode, trained: int) -> int:
    """A step's cost in forwards of one token; a forward and backward are 3.

    A packed row of which one document is kept runs whole, and is counted by its kept documents.
    """
    given = int(mode.samples.tokens.sum())
    if isinstance(mode, TwoPass):
        return given + 3 * trained
    return 3 * (trained if isinstance(mode, LossFree) else given)

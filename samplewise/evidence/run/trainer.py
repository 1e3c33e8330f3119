"""The trainer of a run: a weighted trainer that records a history and saves it in its checkpoints."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from transformers import Trainer

from samplewise.engine.observers import StatelessObserver
from samplewise.engine.result import StepResult
from samplewise.evidence.labels import Labels
from samplewise.evidence.run.history import History
from samplewise.rules.groups import group_weights
from samplewise.trainers import WeightedMixin, WeightedTrainer


class Recorder(StatelessObserver):
    """Adds every step to a history. labels: of the samples, to be counted by; per: what a sample counts there."""

    def __init__(self, per: str) -> None:
        self.history, self.per = History(), per
        self.labels: Labels | None = None

    def on_step(self, result: StepResult) -> None:
        """Add the figures of a finished step to the history."""
        self.history.add(result.figures, result.weights.cpu(), result.weighed, result.tokens, result.units)
        self.history.reference += result.reference_tokens
        for phase, seconds in result.seconds.items():
            self.history.spend(phase, seconds)
        if "group" in result.rule.required_fields:
            self.history.add_groups(group_weights(result.state))
        if self.labels is not None:
            samples = result.samples
            self.history.add_labels(self.labels.tally(samples.id, result.weights, samples.tokens, self.per))


class HistoryMixin(WeightedMixin, Trainer):
    """Adds `history`: the curves, the weights' histogram, tokens trained and seconds by phase."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.recorder = Recorder(self.options.per)
        self.engine.added.append(self.recorder)

    @property
    def history(self) -> History:
        """The history of all steps so far, including those before a resume."""
        return self.recorder.history

    def _begin(self, checkpoint: Path | None) -> None:
        self.recorder.history = History() if checkpoint is None else History.load(checkpoint)
        super()._begin(checkpoint)

    def _save_ours(self, folder: Path) -> None:
        self.history.save(folder)
        super()._save_ours(folder)


class RunTrainer(HistoryMixin, WeightedTrainer):
    """A `WeightedTrainer` that records the history of its run."""

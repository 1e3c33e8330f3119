"""Live diagnosis: warnings about a run while it trains."""

from __future__ import annotations

import logging

from samplewise.core.rule import Rule
from samplewise.engine.diagnosis import Watch
from samplewise.engine.observers import StatelessObserver
from samplewise.engine.result import StepResult

logger = logging.getLogger("samplewise")


class Watcher(StatelessObserver):
    """Warns once of each thing that `samplewise.engine.diagnosis` finds, with threshold and remedy."""

    def __init__(self, rule: Rule) -> None:
        self.rule, self.watch = rule, Watch(rule)

    def on_begin(self, step: int) -> None:
        """Watch from the first step of this run."""
        self.watch = Watch(self.rule)

    def on_step(self, result: StepResult) -> None:
        """Check the figures of a finished step, and log what is new."""
        ids, weights = result.samples.id, result.weights
        for finding in self.watch.step(result.step, result.figures, seconds=result.seconds, ids=ids, weights=weights):
            logger.warning("%s", finding)

    def on_evaluation(self, step: int, loss: float) -> None:
        """Compare a loss on held-out data with the training loss since the evaluation before."""
        for finding in self.watch.evaluated(step, loss):
            logger.warning("%s", finding)

"""Live diagnosis, and the weights of groups: what a run says of itself while it goes on."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import TYPE_CHECKING, Any

from transformers import Trainer

from samplewise.core.rule import Rule, State
from samplewise.engine.diagnosis import Watch
from samplewise.engine.figures import PREFIX, Figures
from samplewise.engine.modes import Mode
from samplewise.rules.groups import group_weights

logger = logging.getLogger("samplewise")

_Host = Trainer if TYPE_CHECKING else object


class WatchingMixin(_Host):
    """Warns once of each thing that `samplewise.engine.diagnosis` finds, with threshold and remedy."""

    rule: Rule
    rule_state: State
    _figures: Figures
    _watch: Watch | None = None
    _timed: dict[str, float]

    def _begin(self, checkpoint: Path | None) -> None:
        self._watch, self._timed = Watch(self.rule), {}
        super()._begin(checkpoint)  # pyright: ignore[reportAttributeAccessIssue]

    def _watched(self, mode: Mode) -> None:
        if self._watch is None:
            return
        plan, samples = mode.plan, mode.samples
        findings = self._watch.step(
            self.state.global_step + 1, plan.figures, seconds=self._spent(), ids=samples.id, weights=plan.weights
        )
        for finding in findings:
            logger.warning("%s", finding)

    def _spent(self) -> dict[str, float]:
        """Seconds of this step by phase: what the clock has added since the step before."""
        now = dict(self._figures.clock)
        spent = {phase: seconds - self._timed.get(phase, 0.0) for phase, seconds in now.items()}
        self._timed = now
        return {phase: max(seconds, 0.0) for phase, seconds in spent.items()}

    def evaluate(self, *args: Any, **kwargs: Any) -> dict[str, float]:
        """The host's evaluation; its loss is compared with the training loss since the one before."""
        metrics = super().evaluate(*args, **kwargs)
        loss = metrics.get("eval_loss")
        if self._watch is not None and loss is not None and self.is_in_train:
            for finding in self._watch.evaluated(self.state.global_step, loss):
                logger.warning("%s", finding)
        return metrics

    def _group_figures(self) -> dict[str, float]:
        """The weight of every group, where the rule learns some."""
        if "group" not in self.rule.needs:
            return {}
        return {f"{PREFIX}group_{name}": weight for name, weight in group_weights(self.rule_state).items()}

"""What is logged beside the training loss: means over the steps since the last log."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Mapping

from samplewise.engine.observers import StatelessObserver
from samplewise.engine.result import StepResult
from samplewise.rules.groups import group_weights

PREFIX = "samplewise/"
LOGGED = ("weighted_loss", "ess", "max_weight", "kl", "kept", "length_corr", "samples")
OPTIONAL = frozenset({"tokens_kept", "negative"})
COUNTED = ("empty", "nonfinite", "no_effect")


class Figures(StatelessObserver):
    """Sums of the steps' figures until the loop logs their means."""

    def __init__(self) -> None:
        self._forget()
        self.last: StepResult | None = None

    def _forget(self) -> None:
        self.steps = self.retried = self.fallbacks = 0
        self.sums: defaultdict[str, float] = defaultdict(float)
        self.seconds: defaultdict[str, float] = defaultdict(float)
        self.noted: dict[str, float] = {}

    def on_begin(self, step: int) -> None:
        """Start empty: a run's figures are of its own steps."""
        self._forget()
        self.last = None

    def on_step(self, result: StepResult) -> None:
        """Add the figures of one finished step."""
        self.steps += 1
        self.last = result
        self.retried += result.retried
        self.fallbacks += sum(result.fallbacks.values())
        for name in (*LOGGED, *COUNTED):
            self.sums[name] += result.figures[name]
        for name in OPTIONAL & result.figures.keys():
            self.sums[name] += result.figures[name]
        self.sums["mode"] += result.passes
        for phase, spent in result.seconds.items():
            self.seconds[phase] += spent

    def note(self, figures: Mapping[str, float]) -> None:
        """Set figures whose last known value is logged."""
        self.noted |= {name: value for name, value in figures.items() if math.isfinite(value)}

    def take(self) -> dict[str, float]:
        """The means since the last call (counts and mode alike: `mode` is the mean number of passes), then forget."""
        if self.steps == 0 or self.last is None:
            return {}
        named = (*LOGGED, "mode", *sorted(OPTIONAL & self.sums.keys()))
        means = {PREFIX + name: self.sums[name] / self.steps for name in named}
        means |= {PREFIX + name: value for name, value in self.noted.items()}
        counts = {PREFIX + name: self.sums[name] for name in COUNTED if self.sums[name]}
        if self.retried:  # one-pass steps that ran again in two passes
            counts[PREFIX + "retried"] = self.retried
        if self.fallbacks:  # calls of the kernels in which others stepped in
            counts[PREFIX + "kernel_fallbacks"] = self.fallbacks
        seconds = {f"{PREFIX}seconds_{phase}": spent / self.steps for phase, spent in self.seconds.items()}
        groups = _group_figures(self.last)
        self._forget()
        return {**means, **counts, **seconds, **groups}


def _group_figures(last: StepResult) -> dict[str, float]:
    """The weight of every group, where the rule learns some."""
    if "group" not in last.rule.required_fields:
        return {}
    return {f"{PREFIX}group_{name}": weight for name, weight in group_weights(last.state).items()}

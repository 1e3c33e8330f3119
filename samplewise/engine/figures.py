"""What is logged beside the host's figures: means over the steps since the last log."""

from __future__ import annotations

import math
from collections import defaultdict

from samplewise.core.clock import Clock

PREFIX = "samplewise/"
LOGGED = ("weighted_loss", "ess", "max_weight", "kl", "kept", "length_corr", "samples")
COUNTED = ("empty", "nonfinite", "no_effect")
PASSES = {"micro": 0, "stored": 1, "one_pass": 1, "two_pass": 2}


class Figures:
    """Sums until the host logs."""

    def __init__(self) -> None:
        self.steps = self.redone = 0
        self.sums: defaultdict[str, float] = defaultdict(float)
        self.noted: dict[str, float] = {}
        self.clock = Clock()

    def add(self, figures: dict[str, float], mode: str) -> None:
        """Take in one step's plan."""
        self.steps += 1
        for name in (*LOGGED, *COUNTED):
            self.sums[name] += figures[name]
        if "tokens_kept" in figures:
            self.sums["tokens_kept"] += figures["tokens_kept"]
        self.sums["mode"] += PASSES[mode]

    def note(self, figures: dict[str, float]) -> None:
        """Figures of which the last known value is logged."""
        self.noted |= {name: value for name, value in figures.items() if math.isfinite(value)}

    def flush(self) -> dict[str, float]:
        """The means since the last call (counts and mode alike: `mode` is the mean number of passes), then forget."""
        if self.steps == 0:
            return {}
        means = {PREFIX + name: self.sums[name] / self.steps for name in (*LOGGED, "mode")}
        if "tokens_kept" in self.sums:
            means[PREFIX + "tokens_kept"] = self.sums["tokens_kept"] / self.steps
        means |= {PREFIX + name: value for name, value in self.noted.items()}
        counts = {PREFIX + name: self.sums[name] for name in COUNTED if self.sums[name]}
        if self.redone:  # one-pass steps that ran again in two passes
            counts[PREFIX + "redone"] = self.redone
        seconds = {f"{PREFIX}seconds_{phase}": spent / self.steps for phase, spent in self.clock.items()}
        self.__init__()
        return {**means, **counts, **seconds}

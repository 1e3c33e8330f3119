"""Findings about a run: figures of steps in, warnings with threshold and remedy out."""

from __future__ import annotations

import math
import re
from collections import deque
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from samplewise.core.rule import Rule

PATIENCE = 50
"""Over how many steps a figure has to be out of bounds."""
MIN_ESS, MAX_CORRELATION, MAX_SCORING_SHARE = 0.1, 0.5, 0.4
HEAVIEST_IDS, MAX_WEIGHT_SHARE, MIN_IDS = 0.01, 0.2, 200
MIN_RISE, MIN_EVALUATIONS = 0.01, 3
MIN_MAX = ("lin_upper", "quadratic", "extremes")


PREFIX, SECONDS = "samplewise/", "seconds_"
"""Of the names in a log."""

Seen = tuple[str, str, str]
"""(name of the check, what was measured, remedy)."""


@dataclass(frozen=True)
class Finding:
    """Something to look at. name: of the check; step: where it was seen; says: what was measured, and the threshold."""

    name: str
    step: int
    says: str
    remedy: str

    def __str__(self) -> str:
        return f"step {self.step}: {self.says}. {self.remedy}"


class Watch:
    """Follows one run, a step or a log entry at a time, and says each kind of thing once.

    ```python
    watch = Watch(rule)
    for finding in watch.step(step, {"ess": 0.05, "kept": 1.0, "length_corr": 0.1, "samples": 32, "loss": 2.1}):
        print(finding)
    ```
    Cost: nothing but sums; with ids, a sort of all ids so far every 50 steps (0.2 s for 10⁶).
    """

    def __init__(self, rule: Rule) -> None:
        self.rule = rule
        self.said: set[str] = set()
        self.low_ess = self.lone = self.flat = 0  # steps in a row
        self.correlations: deque[float] = deque(maxlen=PATIENCE)
        self.seconds: deque[tuple[float, float]] = deque(maxlen=PATIENCE)
        self.train: list[float] = []  # losses since the last evaluation
        self.evaluations: list[tuple[float, float]] = []  # (train loss since the one before, held-out loss)
        self.weights = _WeightById()

    def step(
        self,
        step: int,
        figures: Mapping[str, float],
        *,
        seconds: Mapping[str, float] | None = None,
        ids: Tensor | None = None,
        weights: Tensor | None = None,
        steps: int = 1,
    ) -> list[Finding]:
        """Add one step, or the means over several; returns the findings that are new.

        figures: as in `Plan.figures`, those that are known. seconds: by phase, "score" among them. steps: how many the
        figures stand for. ids, weights: [N] of the step's samples, mean 1; for what single ids gather.
        """
        found = [self._ess(figures, steps), self._length(figures, steps), self._effect(figures, steps)]
        if seconds:
            found.append(self._scoring(seconds, steps))
        if "loss" in figures:
            self.train.append(figures["loss"])
        if ids is not None and weights is not None:
            self.weights.add(ids, weights)
            if step % PATIENCE == 0:
                found.append(self._few_ids())
        return self._new(step, found)

    def evaluated(self, step: int, held_out: float) -> list[Finding]:
        """Add the loss on held-out data at an evaluation; returns the findings that are new."""
        if self.train:
            self.evaluations.append((sum(self.train) / len(self.train), held_out))
            self.train = []
        last = self.evaluations[-MIN_EVALUATIONS:]
        apart = all(before[0] > after[0] and before[1] < after[1] for before, after in pairwise(last))
        if len(last) < MIN_EVALUATIONS or not apart or last[-1][1] - last[0][1] <= MIN_RISE:
            return []
        says = (
            f"the training loss fell from {last[0][0]:.4f} to {last[-1][0]:.4f} nats/token while the held-out loss "
            f"rose from {last[0][1]:.4f} to {last[-1][1]:.4f}, at each of {MIN_EVALUATIONS} evaluations "
            f"(threshold: {MIN_RISE} in all)"
        )
        remedy = "Stop here, lower the learning rate, add data, or take a milder rule."
        return self._new(step, [("overfitting", says, remedy)])

    def _new(self, step: int, found: Iterable[Seen | None]) -> list[Finding]:
        new = [Finding(each[0], step, *each[1:]) for each in found if each is not None and each[0] not in self.said]
        self.said |= {each.name for each in new}
        return new

    def _ess(self, figures: Mapping[str, float], steps: int) -> Seen | None:
        self.low_ess = self.low_ess + steps if figures.get("ess", 1.0) < MIN_ESS else 0
        if self.low_ess < PATIENCE:
            return None
        return (
            "few samples count",
            f"the effective sample size is below {MIN_ESS:.0%} of the samples for {self.low_ess} steps, "
            f"{figures['ess']:.1%} now (threshold: {PATIENCE} steps)",
            "Raise r, or fix the size with ir_dro(ess=0.5); add clip_weights; or enlarge the step.",
        )

    def _length(self, figures: Mapping[str, float], steps: int) -> Seen | None:
        if "length_corr" in figures:
            self.correlations.extend([figures["length_corr"]] * min(steps, PATIENCE))
        mean = sum(self.correlations) / PATIENCE
        if len(self.correlations) < PATIENCE or abs(mean) <= MAX_CORRELATION:
            return None
        return (
            "length",
            f"weights follow length: their correlation is {mean:+.2f} over {PATIENCE} steps "
            f"(threshold: {MAX_CORRELATION} either way)",
            f"The rule prefers {'long' if mean > 0 else 'short'} samples: by_length(4, …) ranks among like lengths; or "
            "cut windows of one size.",
        )

    def _effect(self, figures: Mapping[str, float], steps: int) -> Seen | None:
        names = set(re.findall(r"(\w+)\(", self.rule.expression))
        if names <= {"uniform", "chain"} or self.rule.norm == "count":
            return None
        n, shaped = figures.get("samples", math.inf), not names.isdisjoint(MIN_MAX)
        flat = figures.get("ess", 0.0) > 1 - 1e-9 and figures.get("kept", 0.0) == 1 and "warmup" not in names
        flat = flat and figures.get("negative", 0.0) in (0.0, 1.0)  # else the same sizes have two signs
        self.lone = self.lone + steps if n <= 1 or (n <= 2 and shaped) else 0
        self.flat = self.flat + steps if flat else 0
        if self.lone >= PATIENCE:
            what = "one sample leave" if n <= 1 else "two samples, which are the ends of their own range, leave"
            says = f"steps of {what} {self.rule} nothing to weigh, for {self.lone} steps (threshold: {PATIENCE})"
            return "no effect", says, "Raise the batch size or the accumulation."
        if self.flat >= PATIENCE:
            says = f"{self.rule} has weighed all samples alike for {self.flat} steps (threshold: {PATIENCE})"
            return "no effect", says, "Lower r, widen the selection, or train with uniform()."
        return None

    def _scoring(self, seconds: Mapping[str, float], steps: int) -> Seen | None:
        self.seconds.extend([(seconds.get("score", 0.0), sum(seconds.values()))] * min(steps, PATIENCE))
        scored, total = (sum(part) for part in zip(*self.seconds, strict=True))
        if len(self.seconds) < PATIENCE or scored <= MAX_SCORING_SHARE * total:
            return None
        return (
            "scoring",
            f"scoring takes {scored / total:.0%} of a step's time over {PATIENCE} steps "
            f"(threshold: {MAX_SCORING_SHARE:.0%})",
            "Use a rule of one pass (a tilt, lagged=True, window=64), or losses stored before training.",
        )

    def _few_ids(self) -> Seen | None:
        count, share = self.weights.share(HEAVIEST_IDS)
        if count < MIN_IDS or share <= MAX_WEIGHT_SHARE:
            return None
        return (
            "few ids",
            f"{HEAVIEST_IDS:.0%} of the {count:,} ids seen so far hold {share:.0%} of all weight "
            f"(threshold: {MAX_WEIGHT_SHARE:.0%})",
            "Look at them: often noise. Add band(drop_top=…) or clip_weights to the rule, or leave them out.",
        )


class _WeightById:
    """The sum of the sizes of the weights that each id was given."""

    def __init__(self) -> None:
        self.ids: NDArray[np.int64] = np.zeros(0, np.int64)
        self.sums: NDArray[np.float64] = np.zeros(0)
        self.held: list[tuple[NDArray[np.int64], NDArray[np.float64]]] = []

    def add(self, ids: Tensor, weights: Tensor) -> None:
        self.held.append((ids.cpu().numpy().astype(np.int64), weights.detach().abs().double().cpu().numpy()))

    def share(self, top: float) -> tuple[int, float]:
        """(number of ids, the share of all weight that the `top` share of them holds)."""
        ids = np.concatenate([self.ids, *(each for each, _ in self.held)])
        sums = np.concatenate([self.sums, *(each for _, each in self.held)])
        self.ids, place = np.unique(ids, return_inverse=True)
        self.sums, self.held = np.bincount(place, weights=sums, minlength=len(self.ids)).astype(np.float64), []
        most = max(1, round(top * len(self.ids)))
        total = float(self.sums.sum())
        return len(self.ids), float(np.sort(self.sums)[-most:].sum()) / total if total > 0 else 0.0


def diagnose(log: Iterable[Mapping[str, float]], rule: Rule) -> list[Finding]:
    """The findings of a finished or running run, from its log.

    log: entries in the order of the run, as in `log_history` of a Trainer's state: "step", "loss" and "samplewise/…"
        (means over the steps since the entry before), or "step" and "eval_loss".
    """
    watch, found, before = Watch(rule), [], 0
    for entry in log:
        step = int(entry["step"])
        own = {key.removeprefix(PREFIX): float(value) for key, value in entry.items() if key.startswith(PREFIX)}
        if own and "loss" in entry:
            seconds = {key.removeprefix(SECONDS): value for key, value in own.items() if key.startswith(SECONDS)}
            figures = {key: value for key, value in own.items() if not key.startswith(SECONDS)}
            found += watch.step(step, figures | {"loss": float(entry["loss"])}, seconds=seconds, steps=step - before)
            before = step
        if "eval_loss" in entry:
            found += watch.evaluated(step, float(entry["eval_loss"]))
    return found

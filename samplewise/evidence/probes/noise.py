"""Whether a high loss is noise: how well the loss detects each corruption, and the weight that rules give to it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch

from samplewise.core.samples import Samples
from samplewise.engine.plan import plan_step
from samplewise.rules import parse_rule
from samplewise.rules.budget import resolve
from samplewise.rules.epochs import refuse_epochs, refuse_token_rule


def auc(noisy: np.ndarray, clean: np.ndarray) -> float:
    """P(loss of a noisy sample > loss of a clean one), ties counting half.

    >>> auc(np.array([2.0, 3.0]), np.array([1.0, 2.0]))
    0.875
    """
    order = np.sort(clean)
    below, at_most = np.searchsorted(order, noisy, "left"), np.searchsorted(order, noisy, "right")
    return float((below + at_most).mean() / (2 * len(clean)))


def auc_error(value: float, noisy: int, clean: int) -> float:
    """The standard error of the AUC (Hanley and McNeil, 1982)."""
    q1, q2 = value / (2 - value), 2 * value**2 / (1 + value)
    spread = value * (1 - value) + (noisy - 1) * (q1 - value**2) + (clean - 1) * (q2 - value**2)
    return float(np.sqrt(max(spread, 0.0) / (noisy * clean)))


def by_kind(losses: Mapping[str, np.ndarray], clean: np.ndarray) -> dict[str, dict[str, float]]:
    """For each kind its mean loss, AUC and the AUC's standard error."""
    found = {}
    for kind, own in losses.items():
        value = auc(own, clean)
        found[kind] = {"mean": float(own.mean()), "auc": value, "error": auc_error(value, len(own), len(clean))}
    return found


def weight_on_noise(
    rule: str, losses: np.ndarray, kinds: Sequence[str | None], *, step: int = 32, seed: int = 0, passes: int = 4
) -> dict[str, Any]:
    """The share of the weight that a rule gives to noise, in steps of `step` samples drawn without replacement.

    losses: [N] of clean and noisy samples; kinds: the label of each, None for clean. Losses are those of one moment:
    what training changes in them is not in it. {"all": share, "kinds": {kind: weight over the kind's mean share}}.
    """
    names = np.array(["" if kind is None else kind for kind in kinds])
    draw = np.random.default_rng(seed)
    steps = passes * (len(losses) // step)
    parsed = resolve(parse_rule(rule.replace("{seed}", "0")), max(1, steps))
    refuse_epochs(parsed, "in a probe")
    refuse_token_rule(parsed, "in a probe")
    state, total = parsed.init(), np.zeros(len(losses))
    for _ in range(passes):
        order = draw.permutation(len(losses))
        for start in range(0, len(order) - step + 1, step):
            own = order[start : start + step]
            plan = plan_step(parsed, _samples(losses, own), state, max_nonfinite=1.0)
            state = plan.state
            total[own] += plan.weights.numpy()
    share = float(total[names != ""].sum() / total.sum())
    ratio = {kind: float(total[names == kind].mean() / total.mean()) for kind in sorted(set(names) - {""})}
    return {"all": share, "given": float((names != "").mean()), "kinds": ratio}


def _samples(losses: np.ndarray, own: np.ndarray) -> Samples:
    count = torch.full((len(own),), 100, dtype=torch.int64)
    return Samples(torch.from_numpy(losses[own]).double(), count, torch.from_numpy(own.astype(np.int64)))

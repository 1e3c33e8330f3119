"""The compute that an arm needs to reach its control's final loss, from its evaluations along the way."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from samplewise.evidence.plan import HELD_OUT

TRAINED = ("rate", "random", "oracle", "arm")


def reach(arms: Sequence[Mapping[str, Any]], control: str, values: Mapping[str, Any]) -> dict[str, Any]:
    """By arm the share of what its control spent in all: by seed, and their mean where every seed reaches the loss.

    The learning rate of a run that ends there would have fallen by then, so that it would need less: with a falling
    rate the share is an upper bound. Empty without evaluations during training.
    """
    if not values["during"] or "spent" not in values:
        return {}
    found = {}
    for arm in arms:
        name, other = arm["name"], arm.get("control", control)
        seeds = [seed for seed in values["after"].get(name, {}) if seed in values["after"].get(other, {})]
        if arm["role"] not in TRAINED or not seeds:
            continue
        shares = {seed: _share(name, other, seed, values) for seed in seeds}
        known = [share for share in shares.values() if share is not None]
        mean = float(np.mean(known)) if len(known) == len(shares) else None
        found[name] = {"control": other, "share": mean, "by_seed": shares}
    return found


def reach_lines(found: Mapping[str, Any]) -> list[str]:
    """A line for each arm."""
    lines = []
    for arm, each in found.items():
        shares = [share for share in each["by_seed"].values() if share is not None]
        missed = len(each["by_seed"]) - len(shares)
        if not shares:
            lines.append(f"{arm}: the final loss of {each['control']} is not reached")
            continue
        some = f", not reached under {missed} of {len(each['by_seed'])} seeds" if missed else ""
        said = f"{np.mean(shares):.0%} ({min(shares):.0%} to {max(shares):.0%}) of what {each['control']} spent"
        lines.append(f"{arm}: the final loss of {each['control']} takes {said}{some}")
    return lines


def _share(arm: str, control: str, seed: str, values: Mapping[str, Any]) -> float | None:
    """Where the arm's loss first falls to the control's last, between evaluations by straight lines."""
    target = _mean(values["after"][control][seed])
    before = values["before"].get(seed, values["before"].get("any"))
    if before is None:
        return None
    losses = [_mean(before), *(_mean(each[arm][seed]) for each in values["during"]), _mean(values["after"][arm][seed])]
    spent = [0.0, *values["spent"][arm][seed]]
    whole = values["spent"][control][seed][-1]
    for k in range(1, len(losses)):
        if losses[k] <= target:
            part = (losses[k - 1] - target) / (losses[k - 1] - losses[k]) if losses[k - 1] > losses[k] else 0.0
            return (spent[k - 1] + max(0.0, part) * (spent[k] - spent[k - 1])) / whole
    return None


def _mean(sets: Mapping[str, Sequence[float]]) -> float:
    return float(np.mean(sets[HELD_OUT]))

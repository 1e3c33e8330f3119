"""The trials of tuning: the same grid for every arm, and the point that each arm takes from it."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from itertools import product
from pathlib import Path
from typing import Any

from samplewise.core.json_file import as_written, read_json
from samplewise.evidence.controls import Arm
from samplewise.evidence.plan import PlanConfig
from samplewise.evidence.slugs import file_of

TRIALS = "trials"
"""The folder of trials, beside that of runs."""
DEVELOPMENT = "development"
"""The set that trials are measured on."""
_DAMAGED = "Remove the damaged file, then run the same plan again: it repeats that trial."


def trials_of(plan: PlanConfig, arm: Arm) -> Iterator[Arm]:
    """The arm at every point of the plan's grid."""
    assert plan.tune is not None
    for rate, batch in product(plan.tune.learning_rate or [1.0], plan.tune.batch or [1.0]):
        name = f"{arm.name}, learning rate × {rate:g}, batch × {batch:g}"
        yield replace(arm, name=name, rate=arm.rate * rate, batch=arm.batch * batch)


def tuning_of(folder: Path, plan: PlanConfig, arm: Arm) -> dict[str, Any] | None:
    """The trials of an arm, what they cost, and the best; None until all are finished, and without tuning.

    Trials that diverged have no loss; where all did, the first is taken, whose runs will say so.
    """
    if plan.tune is None:
        return None
    trials = list(trials_of(plan, arm))
    paths = [file_of(folder / TRIALS, trial.name, plan.tune.seed) for trial in trials]
    if not all(path.exists() for path in paths):
        return None
    found = []
    for trial, path in zip(trials, paths, strict=True):
        with as_written(path, "a trial of a plan", _DAMAGED):
            run = read_json(path, "a trial of a plan", _DAMAGED)
            loss = None if "failed" in run else run["after"][DEVELOPMENT]["figures"]["mean"]
            found.append(
                {"learning_rate": trial.rate, "batch": trial.batch, "loss": loss, "spent": run.get("spent", 0)}
            )
    best = min(found, key=lambda each: float("inf") if each["loss"] is None else each["loss"])
    return {
        "learning_rate": best["learning_rate"], "batch": best["batch"], "trials": found,
        "cost": sum(each["spent"] for each in found), "seed": plan.tune.seed, "at_the_edge": _at_the_edge(best, found),
    }  # fmt: skip


def at_best(arm: Arm, tuned: dict[str, Any]) -> Arm:
    """The arm with what its trials found best."""
    return replace(arm, rate=tuned["learning_rate"], batch=tuned["batch"])


def _at_the_edge(best: dict[str, Any], found: list[dict[str, Any]]) -> list[str]:
    """The numbers whose best value is the smallest or largest of three or more: a wider grid might find a better."""
    edges = []
    for key in ("learning_rate", "batch"):
        values = sorted({each[key] for each in found})
        if len(values) > 2 and best[key] in (values[0], values[-1]):
            edges.append(key)
    return edges

"""Every difference that a plan asks for, from the values by document alone, so that `--check` can recompute it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from samplewise.evidence.crossed import SEEDS, crossed, family_p, seeds_needed
from samplewise.evidence.holm import holm
from samplewise.evidence.metrics import METRICS, metrics_for, worst_group
from samplewise.evidence.plan import HELD_OUT

Values = Mapping[str, Any]
"""values.json: {"before": {seed: sets}, "during": [{arm: {seed: sets}}, …], "after": {arm: {seed: sets}}}."""

NATS = ("loss", "worst_decile", "worst_group", "tempered")
"""Metrics in the unit of min_effect."""


def comparisons(arms: Sequence[Mapping[str, Any]], control: str) -> Iterator[tuple[str, str, str, bool]]:
    """(arm, control, role, whether the arm is a control itself), in the order of the results.

    role: "uniform" against the arm's own control, or else the plan's; "random" against the arm's random one; "rate"
    against the plan's control at another learning rate, for arms that have that control. Averaged weights are
    compared along fronts alone.
    """
    rates = [arm["name"] for arm in arms if arm["role"] == "rate"]
    for arm in arms:
        name, is_arm, own = arm["name"], arm["role"] == "arm", arm.get("control", control)
        if name != control and arm["role"] != "average":
            yield name, own, "uniform", not is_arm
        if is_arm and arm["of"] is not None:
            yield name, arm["of"], "random", False
        if is_arm and own == control:
            yield from ((name, rate, "rate", False) for rate in rates)


def differences(
    arms: Sequence[Mapping[str, Any]], control: str, documents: Mapping[str, Any], values: Values, min_effect: float
) -> list[dict[str, Any]]:
    """All differences, with Holm's correction over the arms of each family (set, time, metric, role).

    Of an arm that has a margin, the row of its main difference has p_margin as well: of a difference as large as that,
    corrected over the arms that have one. It is two-sided, so that it is below 5% where the 95% interval lies below.
    """
    margins = {arm["name"]: arm["margin"] for arm in arms if "margin" in arm}
    rows: list[dict[str, Any]] = []
    family: dict[tuple[Any, ...], list[tuple[dict[str, Any], np.ndarray]]] = {}
    stages = [*enumerate(values["during"], 1), (len(values["during"]) + 1, values["after"])]
    for k, stage in stages:
        at = k / len(stages)
        for arm, other, role, of_controls in comparisons(arms, control):
            for name, metric, x, more in _matrices(stage, arm, other, role, at, documents):
                row = _row(x["values"], min_effect if metric in NATS else None)
                row = {
                    "arm": arm,
                    "control": other,
                    "role": role,
                    "set": name,
                    "at": at,
                    "metric": metric,
                    **row,
                    **more,
                }
                if metric == "loss":
                    row["share_of_gain"] = _share(row["mean"], x["seeds"], values, stage, other, name)
                if (at, name, metric, role) == (1, HELD_OUT, "loss", "uniform") and arm in margins:
                    row |= margin_of(x["values"], margins[arm])
                row["seeds"] = x["seeds"]
                rows.append(row)
                family.setdefault((name, at, metric, role, of_controls), []).append((row, x["values"]))
    for members in family.values():
        corrected = holm(family_p([x for _, x in members])) if _alike(members) else holm([r["p"] for r, _ in members])
        for (row, _), p in zip(members, corrected, strict=True):
            row["p_holm"] = p
            row["family"] = len(members)
    within = [row for row in rows if "margin" in row]
    for row, p in zip(within, holm([row["p_margin"] for row in within]), strict=True):
        row["p_margin"] = p
    return rows


def margin_of(x: np.ndarray, margin: float) -> dict[str, float]:
    """The p of a mean of at least `margin`, two-sided, for differences [S, D]."""
    found = crossed(x - margin)
    return {"margin": margin, "p_margin": found.p if found.mean < 0 else 1.0}


def _alike(members: Sequence[tuple[dict[str, Any], np.ndarray]]) -> bool:
    """Whether all arms have the same number of seeds, which they may not in a partial table."""
    return len({x.shape for _, x in members}) == 1


def _matrices(
    stage: Mapping[str, Any], arm: str, other: str, role: str, at: float, documents: Mapping[str, Any]
) -> Iterator[tuple[str, str, dict[str, Any], dict[str, Any]]]:
    seeds = [seed for seed in stage.get(arm, {}) if seed in stage.get(other, {})]
    if not seeds or (at < 1 and role != "uniform"):
        return
    for name, own in documents.items():
        if any(name not in stage[each][seed] for each in (arm, other) for seed in seeds):
            continue  # benchmarks are measured at the end only
        this, that = (np.array([stage[each][seed][name] for seed in seeds], float) for each in (arm, other))
        if this.shape[1] < 2:
            continue
        whole = name == HELD_OUT and at == 1 and role != "rate"
        for metric in metrics_for(this.shape[1], over_seeds=len(seeds) >= SEEDS) if whole else ("loss",):
            found = METRICS[metric](this, own) - METRICS[metric](that, own)
            label = name.split("/")[-1] if "/" in name else metric
            yield name, label, {"values": found, "seeds": [int(seed) for seed in seeds]}, {}
        worst = worst_group(that, own) if whole else None
        if worst is not None:
            found = (this - that)[:, worst[1]]
            yield name, "worst_group", {"values": found, "seeds": [int(s) for s in seeds]}, {"group": worst[0]}


def _row(x: np.ndarray, min_effect: float | None) -> dict[str, Any]:
    found = crossed(x)
    needed = None
    if min_effect is not None and len(x) >= SEEDS:
        needed = seeds_needed(found.components, found.documents, min_effect)
    return {
        "mean": found.mean, "low": found.low, "high": found.high, "p": found.p, "p_holm": 1.0,
        "effect_size": found.effect, "documents": found.documents, "degrees": found.degrees,
        "covers": "documents and seeds" if found.over_seeds else "documents",
        "seeds_needed": needed,
    }  # fmt: skip


def _share(
    mean: float, seeds: Sequence[int], values: Values, stage: Mapping[str, Any], control: str, name: str
) -> float | None:
    """The difference as a share of what the control gained by training; None where it gained nothing."""
    before = values["before"]
    start = [np.mean(before.get(str(seed), before.get("any", {})).get(name, [np.nan])) for seed in seeds]
    gained = float(np.mean(start) - np.mean([stage[control][str(seed)][name] for seed in seeds]))
    return -mean / gained if np.isfinite(gained) and gained > 0 else None

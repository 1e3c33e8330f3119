"""results.json and values.json from the runs that are finished: the same files for the same plan, seed and machine."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np

from samplewise.core.checkpoint import write_bytes
from samplewise.core.json_file import as_written, read_json
from samplewise.evidence.budget import Budget
from samplewise.evidence.controls import Arm
from samplewise.evidence.derived import derived
from samplewise.evidence.groups import group_of
from samplewise.evidence.labels import shares
from samplewise.evidence.plan import PlanConfig
from samplewise.evidence.primary import primary_of
from samplewise.evidence.registered import later_arms
from samplewise.evidence.slugs import RUNS, before_of, file_of
from samplewise.evidence.stability import stability
from samplewise.evidence.tasks import HIGHER
from samplewise.evidence.trials import tuning_of

SCHEMA = "samplewise-results-1"
RESULTS, VALUES = "results.json", "values.json"
DAMAGED = "Remove the damaged file, then run the same plan again: it repeats that run."
FIGURES = ("mean", "token_mean", "bits_per_byte", "p90", "worst_decile")

Runs = dict[tuple[str, int], dict[str, Any]]


def write_outcome(folder: Path, plan: PlanConfig, arms: Sequence[Arm], seeded: bool) -> dict[str, Any]:
    """Write both files from what is finished, and return results.json.

    Errors: SamplewiseError where the file of a run is damaged.
    """
    with as_written(folder / RUNS, "whole files of finished runs", DAMAGED):
        values, results = _outcome(folder, plan, arms, seeded)
    write_bytes(folder / VALUES, _json(values))
    write_bytes(folder / RESULTS, _json(results))
    return results


def _outcome(
    folder: Path, plan: PlanConfig, arms: Sequence[Arm], seeded: bool
) -> tuple[dict[str, Any], dict[str, Any]]:
    """The contents of values.json and results.json."""
    runs = {(arm.name, seed): _read(file_of(folder, arm.name, seed)) for seed in plan.seeds for arm in arms}
    finished = {key: run for key, run in runs.items() if run is not None and "failed" not in run}
    values = _values(folder, plan, arms, finished, seeded)
    documents = _documents(finished)
    spent = {
        arm.name: {str(s): finished[arm.name, s]["spent"] for s in plan.seeds if (arm.name, s) in finished}
        for arm in arms
    }
    described = [_arm(arm, [finished[arm.name, s] for s in plan.seeds if (arm.name, s) in finished]) for arm in arms]
    later = later_arms(folder)
    described = [each | {"later": True} if each["name"] in later else each for each in described]
    for each, arm in zip(described, arms, strict=True):
        if (tuned := tuning_of(folder, plan, arm)) is not None:
            each["tuned"] = tuned
    missing = [{"arm": arm.name, "seed": seed} for seed in plan.seeds for arm in arms if runs[arm.name, seed] is None]
    failed = [{"arm": a, "seed": s, "error": run["failed"]} for (a, s), run in runs.items() if run and "failed" in run]
    budget = Budget.of(plan.budget)
    results = {
        "schema": SCHEMA,
        "complete": not missing,
        "missing": missing,
        "failed": failed,
        "budget": {"kind": budget.kind, "amount": budget.amount, "spent": spent},
        "seeds": plan.seeds,
        "control": plan.control,
        "min_effect": plan.min_effect,
        "arms": described,
        "documents": documents,
        "higher_is_better": [name for name in documents if name.split("/")[-1] in HIGHER],
        **_asked(plan),
    }
    found = derived(results, values)
    if found.get("ceiling", {}).get("stopped"):
        results["complete"] = True
    return values, results | found


def _asked(plan: PlanConfig) -> dict[str, Any]:
    """What the plan asks for beside the differences."""
    primary = primary_of(plan)
    asked = {} if primary is None else {"primary": primary.to_json()}
    asked |= {"fronts": asdict(plan.fronts)} if plan.fronts is not None else {}
    asked |= {"stop_early": True} if plan.controls.stop_early else {}
    return {"asked": asked} if asked else {}


def _json(values: dict[str, Any]) -> bytes:
    return (json.dumps(values, indent=1, allow_nan=False, ensure_ascii=False) + "\n").encode()


def _read(path: Path) -> dict[str, Any] | None:
    return read_json(path, "a run of a plan", DAMAGED) if path.exists() else None


def _values(folder: Path, plan: PlanConfig, arms: Sequence[Arm], runs: Runs, seeded: bool) -> dict[str, Any]:
    """Losses by document; rounded, since what is written is what the differences are computed from."""
    before = {}
    for seed in plan.seeds if seeded else ["any"]:
        found = _read(before_of(folder, seed if isinstance(seed, int) else 0, seeded))
        if found is not None:
            before[str(seed)] = _losses(found["sets"])

    def stage(pick: Any) -> dict[str, Any]:
        chosen = {
            arm.name: {str(s): _losses(pick(runs[arm.name, s])) for s in plan.seeds if (arm.name, s) in runs}
            for arm in arms
        }
        return {name: by_seed for name, by_seed in chosen.items() if by_seed}

    during = [stage(lambda run, k=k: run["during"][k]["sets"]) for k in range(plan.evaluations)]
    after = stage(lambda run: run["after"])
    for (arm, seed), run in runs.items():
        for name, values, _ in more_of(run):
            after[arm][str(seed)][name] = values
    spent = {
        arm.name: {str(s): [*(each["spent"] for each in runs[arm.name, s]["during"]), runs[arm.name, s]["spent"]]
                   for s in plan.seeds if (arm.name, s) in runs}
        for arm in arms
    }  # fmt: skip
    return {"before": before, "during": during, "after": after, "spent": spent}


def more_of(run: dict[str, Any]) -> Iterator[tuple[str, list[float], list[Any]]]:
    """("task/measure", values, items) of a run's benchmarks and answers."""
    for task, found in run.get("more", {}).items():
        for measure, values in found["values"].items():
            yield f"{task}/{measure}", [round(value, 7) for value in values], found["items"]


def _losses(sets: dict[str, Any]) -> dict[str, list[float]]:
    return {name: [round(each["loss"], 7) for each in found["documents"]] for name, found in sets.items()}


def _documents(runs: Runs) -> dict[str, list[dict[str, Any]]]:
    if not runs:
        return {}
    first = next(iter(runs.values()))
    items = {
        name: [{"id": item, "source": name.split("/")[0], "row": i, "tokens": 0, "bytes": 0, "group": None}
               for i, item in enumerate(of)]
        for name, _, of in more_of(first)
    }  # fmt: skip
    return {
        name: [
            {
                **{key: each[key] for key in ("id", "source", "row", "tokens", "bytes")},
                "group": group_of(each["source"]),
            }
            for each in found["documents"]
        ]
        for name, found in first["after"].items()
    } | items


def _arm(arm: Arm, runs: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """An arm with the results of its runs, as means over seeds."""
    described = {
        "name": arm.name, "rule": arm.config.rule, "role": arm.role, "of": arm.of, "rate": arm.rate,
        "own": {key: value for key, value in asdict(arm.config).items() if key != "rule"},
    }  # fmt: skip
    if arm.config.margin is not None and arm.role == "arm":
        described["margin"] = arm.config.margin
    if arm.config.budget_share != 1:
        described["budget_share"] = arm.config.budget_share
    if arm.config.control is not None:
        described["control"] = arm.config.control
    if not runs:
        return described | {"ran": None}
    histories = [run["history"] for run in runs]
    ran = {
        "rules": sorted({run["rule"] for run in runs}),
        "learning_rate": runs[0]["learning_rate"],
        "steps": _mean([len(h["curves"]["loss"]) for h in histories]),
        "samples": _mean([h["samples"] for h in histories]),
        "left_out": _mean([h["left_out"] for h in histories]),
        "tokens": _mean([h["tokens"] for h in histories]),
        "units": _mean([h["units"] + run["prior"] for h, run in zip(histories, runs, strict=True)]),
        **_prices(runs),
        "ess": _mean([float(np.mean(h["curves"]["ess"])) for h in histories]),
        "kl": _mean([float(np.mean(h["curves"]["kl"])) for h in histories]),
        "max_weight": _mean([float(np.max(h["curves"]["max_weight"])) for h in histories]),
        "group_weights": _last_of_groups([h["groups"] for h in histories]),
        "weight_bins": [_mean(list(bins)) for bins in zip(*(h["bins"] for h in histories), strict=True)],
        "figures": {
            name: {figure: _mean([run["after"][name]["figures"][figure] for run in runs]) for figure in FIGURES}
            for name in runs[0]["after"]
        },
        "curve": [_mean(list(losses)) for losses in _columns([h["curves"]["loss"] for h in histories])],
        "during": [_during([run["during"][k] for run in runs]) for k in range(len(runs[0]["during"]))],
        "more": {name: _mean([_mean(v) for run in runs for n, v, _ in more_of(run) if n == name])
                 for name, _, _ in more_of(runs[0])},
        **_labels(runs),
        **stability([run["gradient_norm"] for run in runs], [h["curves"]["loss"] for h in histories]),
    }  # fmt: skip
    return described | {"ran": ran}


def _prices(runs: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """Under a budget of FLOPs, what the arm spent, and what a token's forward costs in its models."""
    if "prices" not in runs[0]:
        return {}
    prices = {name: _mean([run["prices"][name] for run in runs]) for name in runs[0]["prices"]}
    return {"flops": _mean([run["spent"] for run in runs]), "prices": prices}


def _labels(runs: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """The figures of each label, if the plan names labels: as means over seeds, and by seed."""
    if "labelled" not in runs[0]:
        return {}
    by_seed = {str(run["seed"]): shares(run["history"]["labels"]) for run in runs}
    kinds = {kind: None for found in by_seed.values() for kind in found}
    none = {"weight": 0.0, "samples": 0.0, "tokens": 0.0}
    mean = {
        kind: {name: _mean([found.get(kind, none)[name] for found in by_seed.values()]) for name in none}
        for kind in kinds
    }
    return {"labels": {"documents": runs[0]["labelled"], "mean": mean, "by_seed": by_seed}}


def _last_of_groups(paths: Sequence[Mapping[str, Sequence[float]]]) -> dict[str, float]:
    """The weight of each group at the end of training, over the seeds that met it."""
    names = sorted({name for path in paths for name in path})
    return {name: _mean([path[name][-1] for path in paths if name in path]) for name in names}


def _during(found: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """One evaluation during training, of all seeds."""
    means = {name: _mean([each["sets"][name]["figures"]["mean"] for each in found]) for name in found[0]["sets"]}
    return {"spent": _mean([each["spent"] for each in found]), "mean": means}


def _columns(curves: Sequence[Sequence[float]]) -> list[tuple[float, ...]]:
    """The mean curve over seeds, for the steps that all runs have."""
    return list(zip(*(curve[: min(map(len, curves))] for curve in curves), strict=True))


def _mean(values: Sequence[float]) -> float:
    return float(np.mean(values))

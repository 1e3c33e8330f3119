"""The tables of a comparison: what came of every arm, what it did, other texts and benchmarks, and the way there."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

from result_pages.markdown import NONE, code, p_value, percent, span, table
from samplewise.evidence.fronts import front_lines
from samplewise.evidence.plan import HELD_OUT, ArmConfig
from samplewise.evidence.reach import reach_lines
from samplewise.report.plan_table import tuned_text

Results = Mapping[str, Any]

LABELLED = "labelled"
"""All labels together, in what labels got."""

WORDS = {"better": "better", "worse": "worse", "none": "no difference shown", "not worse": "not worse"}


def tables(results: Results) -> str:
    """All of them, with what the numbers mean."""
    control = results["control"]
    told = [] if "primary" not in results else [f"**{results['primary']['sentence']}**"]
    told += [results["ceiling"]["sentence"]] if "ceiling" in results else []
    told += [
        f"Differences are arm − {code(control)} in nats/token with their 95% interval: below 0 is better. "
        "**Bold**: p after Holm is below 0.05. Tail: the worst decile of the held-out documents.",
        _outcome(results),
        _doings(results),
    ]
    kinds = _kinds(results)
    if kinds:
        told += ["The mean weight of each label, 1 being its share of the samples seen; no rule sees labels:", kinds]
    others = _others(results)
    if others:
        told += [
            "Other texts (nats/token) and benchmarks: the control's own figure, then differences to it, or to the "
            "named random selection; ↑: higher is better.",
            others,
        ]
    way = _way(results)
    if way:
        told += ["The difference on the way, by the share of the budget that was spent:", way]
    told += results.get("notes", [])
    told += ["\n".join(f"- {line}" for line in front_lines(results["fronts"]))] if "fronts" in results else []
    if "reach" in results:
        told += [
            "What it takes to reach the control's final loss:",
            "\n".join(f"- {line}" for line in reach_lines(results["reach"])),
        ]
    failed = [f"{each['arm']}, seed {each['seed']}, diverged: {each['error']}" for each in results["failed"]]
    return "\n\n".join([*told, *failed])


def difference(
    results: Results, arm: str, *, of: str = HELD_OUT, metric: str = "loss", role: str = "uniform", at: float = 1.0
) -> Mapping[str, Any] | None:
    """The row of results.json, or None where there is none."""
    wanted = (arm, of, metric, role, at)
    for row in results["differences"]:
        if (row["arm"], row["set"], row["metric"], row["role"], row["at"]) == wanted:
            return row
    return None


def verdict(results: Results, arm: Mapping[str, Any]) -> str:
    """In words: better, worse, no difference shown, or none above the least that counts; the control by its role."""
    name = arm["name"]
    if name == results["control"]:
        return "the control"
    if name not in results["verdicts"]:
        return "diverged" if any(each["arm"] == name for each in results["failed"]) else NONE
    found, row = results["verdicts"][name]["verdict"], difference(results, name)
    least = results["min_effect"]
    if found == "none" and row is not None and -least < row["low"] and row["high"] < least:
        return f"none above {least:g}"
    return WORDS[found]


def _outcome(results: Results) -> str:
    groups = [row["group"] for row in results["differences"] if row["metric"] == "worst_group"]
    head = ["arm", "held-out loss", "difference", "p after Holm", "− random of its size", "tail difference",
            f"worst group ({groups[0]})" if groups else "worst group", "verdict"]  # fmt: skip
    return table(head, [_outcome_of(results, arm) for arm in results["arms"]])


def _against(row: Mapping[str, Any] | None, control: str) -> str:
    """The control that a difference is to, where it is not the plan's."""
    return "" if row is None or row["control"] == control else f" to {row['control']}"


def _outcome_of(results: Results, arm: Mapping[str, Any]) -> list[str]:
    name, ran = arm["name"], arm["ran"]
    main = difference(results, name)
    return [
        name,
        NONE if ran is None else f"{ran['figures'][HELD_OUT]['mean']:.4f}",
        span(main) + _against(main, results["control"]),
        NONE if main is None else p_value(main["p_holm"]),
        span(difference(results, name, role="random")),
        span(difference(results, name, metric="worst_decile")),
        span(difference(results, name, metric="worst_group")),
        verdict(results, arm),
    ]


def _doings(results: Results) -> str:
    head = ["arm", "rule", "of its own", "steps", "tokens trained on", "ESS", "samples kept", "gradient norm",
            "its 95th percentile / median", "spikes in 100 steps", "weight on noise",
            "noise among samples seen"]  # fmt: skip
    return table(head, [_doings_of(arm) for arm in results["arms"]])


def _doings_of(arm: Mapping[str, Any]) -> list[str]:
    ran, rule = arm["ran"], code(arm["rule"])
    if ran is None:
        return [arm["name"], rule, _own(arm), *[NONE] * 9]
    kept = 1 - ran["left_out"] / max(1, ran["samples"])
    return [
        arm["name"], rule, _own(arm), f"{ran['steps']:,.0f}", f"{ran['tokens']:,.0f}", percent(ran["ess"]),
        percent(kept), *_stability(ran), *_noise(ran.get("labels")),
    ]  # fmt: skip


def _stability(ran: Mapping[str, Any]) -> list[str]:
    """The median norm of the gradient, how far its largest twentieth lies above, and spikes of the loss."""
    norm = ran["gradient_norm"]
    norms = [NONE, NONE] if norm is None else [f"{norm[key]:.2f}" for key in ("median", "p95_over_median")]
    return [*norms, f"{ran['spikes_per_100_steps']:.1f}"]


def _noise(labels: Mapping[str, Any] | None) -> list[str]:
    """The shares of the weight and of the samples seen that labelled documents had."""
    if labels is None:
        return [NONE, NONE]
    return [percent(labels["mean"][LABELLED][key]) for key in ("weight", "samples")]


def _kinds(results: Results) -> str | None:
    """By label the weight over the share of the samples seen."""
    found = {
        arm["name"]: arm["ran"]["labels"]["mean"] for arm in results["arms"] if arm["ran"] and "labels" in arm["ran"]
    }
    names = sorted({kind for own in found.values() for kind in own} - {LABELLED})
    rows = [[arm, *(_over(own.get(name)) for name in names)] for arm, own in found.items()]
    return table(["arm", *names], rows) if rows else None


def _over(shares: Mapping[str, float] | None) -> str:
    return f"{shares['weight'] / shares['samples']:.2f}" if shares and shares["samples"] > 0 else NONE


def _own(arm: Mapping[str, Any]) -> str:
    """What an arm has that the plan has not, in words."""
    own = arm["own"]
    usual = asdict(ArmConfig())
    changed = [key for key, value in own.items() if key not in ("training", "prior") and value != usual[key]]
    found = [f"{key} {code(str(own[key]))}" for key in changed]
    found += [f"tuned: {tuned_text(arm['tuned'])}"] if "tuned" in arm else []
    found += ["added after other runs were finished"] if arm.get("later") else []
    if arm["rate"] != 1:
        found.append(f"{arm['rate']:g}× the learning rate")
    found += [f"{key} {value}" for key, value in own["training"].items()]
    prior = own["prior"]
    if prior["scored"] or prior["trained"]:
        found.append(f"before it {prior['scored']:,} tokens scored, {prior['trained']:,} trained on")
    return "; ".join(found) or NONE


def _others(results: Results) -> str | None:
    names = [name for name in results["documents"] if name != HELD_OUT]
    ran = [arm for arm in results["arms"] if arm["ran"] is not None]
    if not names or not ran:
        return None
    head = ["arm", *(f"{name} ↑" if name in results.get("higher_is_better", ()) else name for name in names)]
    rows = [[arm["name"], *(_other(results, arm, name) for name in names)] for arm in ran]
    rows += [
        [f"{arm['name']} − {arm['of']}", *(_paired(results, arm, name, "random") for name in names)]
        for arm in ran
        if arm["role"] == "arm" and arm["of"] is not None
    ]
    return table(head, rows)


def _other(results: Results, arm: Mapping[str, Any], name: str) -> str:
    if arm["name"] == results["control"]:
        ran = arm["ran"]
        return f"{ran['figures'][name]['mean'] if name in ran['figures'] else ran['more'][name]:.4f}"
    return _paired(results, arm, name, "uniform")


def _paired(results: Results, arm: Mapping[str, Any], name: str, role: str) -> str:
    metric = name.split("/")[-1] if "/" in name else "loss"
    return span(difference(results, arm["name"], of=name, metric=metric, role=role))


def _way(results: Results) -> str | None:
    """Only where more than one evaluation lies on the way."""
    rows = [row for row in results["differences"] if (row["metric"], row["role"]) == ("loss", "uniform")]
    times = sorted({row["at"] for row in rows})
    if len(times) < 3:
        return None
    names = dict.fromkeys((row["arm"], row["set"]) for row in rows)
    head = ["arm", "text", *(percent(at) for at in times)]
    return table(head, [
        [arm, "held out" if of == HELD_OUT else of, *(span(difference(results, arm, of=of, at=at)) for at in times)]
        for arm, of in names
    ])  # fmt: skip

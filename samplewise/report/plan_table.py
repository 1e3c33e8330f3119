"""The results of a plan as text: a row for each arm, then the sentences."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from samplewise.evidence.fronts import front_lines
from samplewise.evidence.reach import reach_lines

HELD_OUT = "held_out"


def plan_table(results: Mapping[str, Any], registered: Sequence[str] = ()) -> str:
    """The table of results.json: figures are means over seeds, nats/token; differences are to the arm's control.

    registered: what was planned beforehand, a line each.

    A partial table says so in its first line.
    """
    wide = max([10, *(len(arm["name"]) for arm in results["arms"])])
    budget = results["budget"]
    lines = [
        *_partial(results),
        *([results["primary"]["sentence"], ""] if "primary" in results else []),
        *registered,
        f"budget     {budget['amount']:,} {UNIT[budget['kind']]}; seeds {_listed(results)}",
        "",
    ]
    labelled = f"{'labelled':>10}" if has_labels(results) else ""
    lines.append(
        f"{'':<{wide}}{'held-out':>10}{'worst':>9}{'kept':>7}{'ESS':>6}{'tokens':>12}{'units':>12}"
        f"{labelled}   difference to {results['control']}, 95% interval, p after Holm"
    )
    rows = {row["arm"]: row for row in results["differences"] if _is_main(row)}
    for arm in results["arms"]:
        lines.append(_row(arm, rows.get(arm["name"]), wide) + _beside(arm))
    if has_labels(results):
        lines.append("labelled: share of the weight on documents with a label")
    lines += _other_sets(results, wide)
    lines += ["", results["ceiling"]["sentence"]] if "ceiling" in results else []
    lines += ["", *reach_lines(results["reach"])] if "reach" in results else []
    lines += ["", *front_lines(results["fronts"])] if "fronts" in results else []
    lines += ["", *results["notes"]] if "notes" in results else []
    lines += ["", *(found["sentence"] for found in results["verdicts"].values())]
    return "\n".join(lines)


UNIT = {
    "epochs": "epochs", "steps": "steps", "tokens": "trained tokens",
    "compute": "units of compute (forward 1, backward 2 a token)",
    "flops": "FLOPs (a token's forward 2 per parameter without embeddings, and attention; each model by its own size)",
}  # fmt: skip


def has_labels(results: Mapping[str, Any]) -> bool:
    """Whether a run counted by labels."""
    return any(arm["ran"] and "labels" in arm["ran"] for arm in results["arms"])


def _partial(results: Mapping[str, Any]) -> list[str]:
    lines = []
    if not results["complete"]:
        total = len(results["arms"]) * len(results["seeds"])
        lines.append(f"PARTIAL: {total - len(results['missing'])} of {total} runs are finished")
    lines += [f"FAILED: {each['arm']}, seed {each['seed']}: {each['error']}" for each in results["failed"]]
    return lines


def _listed(results: Mapping[str, Any]) -> str:
    return ", ".join(map(str, results["seeds"]))


def _is_main(row: Mapping[str, Any]) -> bool:
    return (row["set"], row["at"], row["metric"], row["role"]) == (HELD_OUT, 1, "loss", "uniform")


def _row(arm: Mapping[str, Any], row: Mapping[str, Any] | None, wide: int) -> str:
    ran = arm["ran"]
    if ran is None:
        return f"{arm['name']:<{wide}}{'not run':>10}"
    figures = ran["figures"][HELD_OUT]
    kept = 1 - ran["left_out"] / max(1, ran["samples"])
    line = (
        f"{arm['name']:<{wide}}{figures['mean']:>10.4f}{figures['worst_decile']:>9.4f}{kept:>7.0%}{ran['ess']:>6.0%}"
        f"{ran['tokens']:>12,.0f}{ran['units']:>12,.0f}"
    )
    if "labels" in ran:
        line += f"{ran['labels']['mean']['labelled']['weight']:>10.1%}"
    return line if row is None else line + f"   {_difference(row)}"


def _beside(arm: Mapping[str, Any]) -> str:
    """What must be known beside the numbers of an arm: another control than the plan's, and that it came late."""
    told = [f"to {arm['control']}"] if "control" in arm else []
    told += [f"{arm['budget_share']:.0%} of the budget"] if "budget_share" in arm else []
    told += ["added later"] if arm.get("later") else []
    told += [f"tuned: {tuned_text(arm['tuned'])}"] if "tuned" in arm else []
    return f"   ({', '.join(told)})" if told else ""


def tuned_text(tuned: Mapping[str, Any]) -> str:
    """What tuning found, and what it cost."""
    edge = f", at the edge of the grid in {' and '.join(tuned['at_the_edge'])}" if tuned["at_the_edge"] else ""
    return (
        f"learning rate × {tuned['learning_rate']:g}, batch × {tuned['batch']:g}{edge}; {len(tuned['trials'])} trials "
        f"cost {tuned['cost']:,}"
    )


def _difference(row: Mapping[str, Any]) -> str:
    return f"{row['mean']:+.4f}  [{row['low']:+.4f}, {row['high']:+.4f}]  {row['p_holm']:.2g}"


def _other_sets(results: Mapping[str, Any], wide: int) -> list[str]:
    """Differences on other domains, and of other metrics, to the control."""
    lines: list[str] = []
    for row in results["differences"]:
        if row["at"] == 1 and row["role"] == "uniform" and not _is_main(row):
            what = row["metric"] if row["set"] == HELD_OUT else f"{row['metric']} on {row['set'].split('/')[0]}"
            what += f" ({row['group']})" if "group" in row else ""
            lines.append(f"{row['arm']:<{wide}}  {what:<34} {_difference(row)}")
    return ["", *lines] if lines else []

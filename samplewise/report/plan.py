"""The page and the pictures of a comparison or a sweep."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from markupsafe import Markup

from samplewise.evidence.reach import reach_lines
from samplewise.evidence.registered import registration_lines
from samplewise.report.fronts import fronts_section
from samplewise.report.labels import labels_table
from samplewise.report.page import (
    Axis,
    Column,
    Interval,
    Line,
    facts,
    figure,
    intervals,
    lines,
    paragraph,
    percent,
    section,
    table,
    warning,
    write_page,
)
from samplewise.report.plan_table import HELD_OUT, UNIT, has_labels, tuned_text
from samplewise.report.style import ARMS, picture, smoothed, span

Results = Mapping[str, Any]


def write_plan(folder: Path, results: Results, sweep: Mapping[str, Mapping[str, float]] | None = None) -> list[Path]:
    """Write report.html and fig-*.svg into the folder of results.json; the files.

    sweep: by arm the numbers of its point, for the sensitivity pictures.
    """
    budget = results["budget"]
    registered = registration_lines(folder)
    parts = [
        *_warnings(results),
        *([section("Primary comparison", paragraph(results["primary"]["sentence"]))] if "primary" in results else []),
        facts({
            "budget": _short(budget), "seeds": len(results["seeds"]),
            "held-out documents": len(results["documents"].get(HELD_OUT, [])), "control": results["control"],
        }),
        *([section("Ceiling", paragraph(results["ceiling"]["sentence"]))] if "ceiling" in results else []),
        *([section("Tuning", *tuning)] if (tuning := _tuning(results)) else []),
        section("What may be said", *(paragraph(v["sentence"]) for v in results["verdicts"].values())),
        *([section("At a fitted temperature", *map(paragraph, results["notes"]))] if "notes" in results else []),
        *([section("Compute to reach the control", *map(paragraph, reach_lines(results["reach"])))]
          if "reach" in results else []),
        *fronts_section(folder, results),
        section("Held-out loss", *_forest(results)),
        *([] if sweep is None else [section("Sensitivity", *_sensitivity(results, sweep))]),
        section("Training", *_training(results)),
        section("Arms", _arms(results)),
        *([section("Labels", *labels_table(results))] if has_labels(results) else []),
        section("Every difference", _differences(results)),
        *([section("Registered", *map(paragraph, registered))] if registered else []),
    ]  # fmt: skip
    path = folder / "report.html"
    write_page(path, "Does it help?", *parts, lead=f"Differences to {results['control']}, 95% intervals.")
    return [path, *_pictures(folder, results, sweep)]


def _warnings(results: Results) -> list[Markup]:
    found = []
    if not results["complete"]:
        found.append(warning(f"Partial: {len(results['missing'])} runs are not finished yet."))
    return found + [warning(f"{f['arm']}, seed {f['seed']}: {f['error']}") for f in results["failed"]]


def _short(budget: Mapping[str, Any]) -> str:
    """The budget in a few words: of FLOPs, which are many, without what they count."""
    if budget["kind"] == "flops":
        return f"{budget['amount']:.3g} FLOPs, each model by its own size"
    return f"{budget['amount']:,} {UNIT[budget['kind']]}"


def _tuning(results: Results) -> list[Markup]:
    tuned = [arm for arm in results["arms"] if "tuned" in arm]
    if not tuned:
        return []
    seed, unit = tuned[0]["tuned"]["seed"], UNIT[results["budget"]["kind"]]
    told = (
        f"Every arm was tuned on development documents, with as many trials as every other and seed {seed}. The trials "
        f"cost {sum(arm['tuned']['cost'] for arm in tuned):,} {unit}, which is not a part of the budget."
    )
    return [paragraph(told), *(paragraph(f"{arm['name']}: {tuned_text(arm['tuned'])}.") for arm in tuned)]


def main_rows(results: Results) -> list[Mapping[str, Any]]:
    """The differences of the held-out loss to the control, at the end."""
    wanted = (HELD_OUT, 1, "loss", "uniform")
    return [row for row in results["differences"] if (row["set"], row["at"], row["metric"], row["role"]) == wanted]


def _forest(results: Results) -> list[Markup]:
    rows = [
        Interval(row["arm"], row["mean"], row["low"], row["high"], f"{row['arm']}: p after Holm {row['p_holm']:.2g}")
        for row in main_rows(results)
    ]
    if not rows:
        return [paragraph("No arm can be compared yet.")]
    told = f"Held-out loss − {results['control']}, nats/token; left of zero is better. The interval covers "
    covers = sorted({row["covers"] for row in main_rows(results)})
    return [figure(intervals(rows, Axis("nats/token"), label="differences"), f"{told}{' or '.join(covers)}.")]


def _training(results: Results) -> list[Markup]:
    ran = [arm for arm in results["arms"] if arm["ran"]]
    series = []
    for arm in ran:
        curve = smoothed(arm["ran"]["curve"], span(len(arm["ran"]["curve"])))
        series.append(Line(arm["name"], [float(i + 1) for i in range(len(curve))], curve))
    if not series:
        return []
    drawing = lines(series, Axis("step"), Axis("nats/token"), label="training losses")
    return [figure(drawing, "Unweighted training loss, mean over seeds, smoothed over a tenth of the steps.")]


def _arms(results: Results) -> Markup:
    names = (
        "arm",
        "rule",
        "held-out",
        "worst decile",
        "kept",
        "ESS",
        "tokens",
        "units",
        "gradient p95/median",
        "spikes/100",
    )
    columns = [Column(name, "word" if name in ("arm", "rule") else "number") for name in names]
    rows = []
    for arm in results["arms"]:
        ran = arm["ran"]
        if ran is None:
            rows.append([arm["name"], arm["rule"], *([None] * 8)])
            continue
        kept, norms = 1 - ran["left_out"] / max(1, ran["samples"]), ran["gradient_norm"]
        name = f"{arm['name']} (added later)" if arm.get("later") else arm["name"]
        rows.append([
            name, arm["rule"], ran["figures"][HELD_OUT]["mean"], ran["figures"][HELD_OUT]["worst_decile"],
            (kept, percent(kept)), (ran["ess"], percent(ran["ess"])), ran["tokens"], ran["units"],
            norms and norms["p95_over_median"], ran["spikes_per_100_steps"],
        ])  # fmt: skip
    return table(columns, rows)


def _differences(results: Results) -> Markup:
    words, numbers = (
        ("arm", "control", "set", "metric"),
        ("at", "difference", "low", "high", "p after Holm", "seeds needed"),
    )
    columns = [*(Column(name, "word") for name in words), *(Column(name) for name in numbers)]
    rows = [
        [row["arm"], row["control"], row["set"], row["metric"], row["at"],
         *((row[key], f"{row[key]:+.4f}") for key in ("mean", "low", "high")), row["p_holm"], row["seeds_needed"]]
        for row in results["differences"]
    ]  # fmt: skip
    return table(columns, rows)


# ---- a sweep ----


def sensitivity(results: Results, sweep: Mapping[str, Mapping[str, float]]) -> list[dict[str, Any]]:
    """By value of the first number, and line by line of the others: the difference and how calmly it trained."""
    main = {row["arm"]: row for row in main_rows(results)}
    ran = {arm["name"]: arm["ran"] for arm in results["arms"] if arm["ran"]}
    points = []
    for arm, numbers in sweep.items():
        if arm in main and arm in ran:
            (_, value), *others = numbers.items()
            norms = ran[arm]["gradient_norm"]
            points.append({
                "line": ", ".join(f"{name}={each:g}" for name, each in others) or "difference", "value": value,
                **{key: main[arm][key] for key in ("mean", "low", "high")}, "ess": ran[arm]["ess"],
                "gradient": norms["p95_over_median"] if norms else None, "spikes": ran[arm]["spikes_per_100_steps"],
            })  # fmt: skip
    return sorted(points, key=lambda point: (point["line"], point["value"]))


MEASURES = {
    "mean": "held-out loss − control, nats/token",
    "ess": "effective samples, share",
    "gradient": "gradient norm, p95 over median",
    "spikes": "loss spikes per 100 steps",
}


def _sensitivity(results: Results, sweep: Mapping[str, Mapping[str, float]]) -> list[Markup]:
    points = sensitivity(results, sweep)
    if not points:
        return [paragraph("No point is finished yet.")]
    name = next(iter(next(iter(sweep.values()))))
    log = _is_log([point["value"] for point in points])
    found = []
    for measure, words in MEASURES.items():
        series = [_line(own, label, measure) for label, own in _by_line(points).items() if own[0][measure] is not None]
        if series:
            drawing = lines(series, Axis(name, log=log), Axis(words), label=words)
            found.append(figure(drawing, f"{words} against {name}{'; 95% intervals' if measure == 'mean' else ''}."))
    return found


def _by_line(points: Sequence[dict[str, Any]]) -> dict[str, list[dict[str, Any]]]:
    found: dict[str, list[dict[str, Any]]] = {}
    for point in points:
        found.setdefault(point["line"], []).append(point)
    return found


def _line(own: Sequence[Mapping[str, Any]], label: str, measure: str) -> Line:
    x = [float(point["value"]) for point in own]
    ends = [[point[key] for point in own] for key in ("low", "high")] if measure == "mean" else [(), ()]
    return Line(label, x, [float(point[measure]) for point in own], *ends)


def _is_log(values: Sequence[float]) -> bool:
    return min(values) > 0 and max(values) / min(values) > 8


# ---- pictures as files ----


def _pictures(folder: Path, results: Results, sweep: Mapping[str, Mapping[str, float]] | None) -> list[Path]:
    made = []
    rows = main_rows(results)
    if rows:
        path = folder / "fig-differences.svg"
        with picture(path, 7.2, 1.2 + 0.42 * len(rows)) as (_, axes):
            places = range(len(rows), 0, -1)
            errors = [[r["mean"] - r["low"] for r in rows], [r["high"] - r["mean"] for r in rows]]
            axes.errorbar([r["mean"] for r in rows], places, xerr=errors, fmt="o", color=ARMS[1], capsize=3)
            axes.axvline(0, color=ARMS[0], linestyle="--")
            axes.set_yticks(places, [r["arm"] for r in rows])
            axes.set_xlabel(f"held-out loss − {results['control']}, nats/token, 95%   ← better · worse →")
        made.append(path)
    points = sensitivity(results, sweep) if sweep else []
    if sweep and points:
        path = folder / "fig-sensitivity.svg"
        with picture(path, 9.6, 6.4, nrows=2, ncols=2) as (_, grid):
            for axes, (measure, words) in zip(grid.flat, MEASURES.items(), strict=True):
                _draw_measure(axes, points, measure, words, next(iter(next(iter(sweep.values())))))
        made.append(path)
    return made


def _draw_measure(axes: Any, points: Sequence[dict[str, Any]], measure: str, words: str, name: str) -> None:
    for (label, own), colour in zip(_by_line(points).items(), [*ARMS[1:], ARMS[0]] * len(points), strict=False):
        x, y = [p["value"] for p in own], [p[measure] for p in own]
        if None in y:
            continue
        axes.plot(x, y, marker="o", color=colour, label=label)
        if measure == "mean":
            axes.fill_between(x, [p["low"] for p in own], [p["high"] for p in own], color=colour, alpha=0.15)
    if measure == "mean":
        axes.axhline(0, color=ARMS[0], linestyle="--")
    if _is_log([p["value"] for p in points]):
        axes.set_xscale("log")
    if len(_by_line(points)) > 1:
        axes.legend()
    axes.set_title(words, fontsize=10)
    axes.set_xlabel(name)

"""The fronts of a comparison: what arms forget against what they learn, a curve for each."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from markupsafe import Markup

from samplewise.evidence.fronts import curve_of, front_lines
from samplewise.report.page import Axis, Line, figure, lines, paragraph, section


def fronts_section(folder: Path, results: Mapping[str, Any]) -> list[Markup]:
    """A figure for every old set, and the differences in words; empty where the plan asks for no fronts."""
    asked = results.get("asked", {}).get("fronts")
    if asked is None:
        return []
    values = json.loads((folder / "values.json").read_text(encoding="utf-8"))
    figures = [_figure(results, values, old, asked["new"]) for old in asked["old"]]
    return [section("Learned and forgotten", *figures, *map(paragraph, front_lines(results["fronts"])))]


def _figure(results: Mapping[str, Any], values: Mapping[str, Any], old: str, new: str) -> Markup:
    series = []
    for arm in results["arms"]:
        if points := sorted(curve_of(values, arm["name"], old, new)):
            series.append(Line(arm["name"], [x for x, _ in points], [y for _, y in points]))
    drawing = lines(series, Axis(f"loss on {new}"), Axis(f"loss on {old}"), label=f"loss on {old} against {new}")
    return figure(drawing, "Every point is an evaluation, mean over seeds. Lower and further left is better.")

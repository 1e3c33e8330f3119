"""All that follows from the values by document: differences, families, verdicts and the primary comparison.

Written by `write_outcome`, and computed again from the two files by `--check`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from samplewise.evidence.ceiling import ceiling
from samplewise.evidence.differences import differences
from samplewise.evidence.fronts import fronts
from samplewise.evidence.notes import temperature_notes
from samplewise.evidence.primary import Primary, primary_outcome
from samplewise.evidence.reach import reach
from samplewise.evidence.sentences import verdicts

Results = Mapping[str, Any]


def derived(results: Results, values: Mapping[str, Any]) -> dict[str, Any]:
    """The derived keys of results.json.

    results: with arms, control, documents, seeds, min_effect, and `asked`, what a plan asks for beside differences.
    """
    arms, documents = results["arms"], results["documents"]
    rows = differences(arms, results["control"], documents, values, results["min_effect"])
    later = {arm["name"] for arm in arms if arm.get("later")}
    found: dict[str, Any] = {
        "families": families(arms, rows), "differences": rows,
        "verdicts": verdicts(rows, results["min_effect"], later),
    }  # fmt: skip
    if notes := temperature_notes(rows):
        found["notes"] = notes
    if reached := reach(arms, results["control"], values):
        found["reach"] = reached
    asked = results.get("asked", {})
    top = ceiling(arms, rows, results["min_effect"], seeds=len(results["seeds"]), stop=bool(asked.get("stop_early")))
    if top is not None:
        found["ceiling"] = top
    if "fronts" in asked:
        found["fronts"] = fronts(arms, results["control"], values, **asked["fronts"])
    if "primary" in asked:
        found["primary"] = _primary(results, values)
    return found


def _primary(results: Results, values: Mapping[str, Any]) -> dict[str, Any]:
    primary = Primary.from_json(results["asked"]["primary"])
    margin = next((arm.get("margin") for arm in results["arms"] if arm["name"] == primary.arm), None)
    return primary_outcome(primary, results["documents"], values, margin)


def families(arms: Sequence[Mapping[str, Any]], rows: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """The comparisons that Holm's correction takes together: those of arms, and apart from them those of controls."""
    kinds = {arm["name"]: arm["role"] for arm in arms}
    found: dict[tuple[Any, ...], dict[str, Any]] = {}
    for row in rows:
        of = "arms" if kinds[row["arm"]] == "arm" else "controls"
        key = (row["set"], row["at"], row["metric"], row["role"], of)
        given = dict(zip(("set", "at", "metric", "role", "of"), key, strict=True))
        family = found.setdefault(key, {**given, "comparisons": []})
        family["comparisons"].append(f"{row['arm']} − {row['control']}")
    return list(found.values())

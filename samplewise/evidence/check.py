"""Check a folder of results: its form, and every difference, recomputed from the values."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from samplewise.core.errors import SamplewiseError
from samplewise.core.json_file import as_written
from samplewise.evidence.derived import derived
from samplewise.evidence.outcome import RESULTS, SCHEMA, VALUES
from samplewise.evidence.registered import REGISTERED, later_arms

FORM: dict[str, type | tuple[type, ...]] = {
    "schema": str, "complete": bool, "missing": list, "failed": list, "budget": dict, "seeds": list, "control": str,
    "min_effect": float, "arms": list, "documents": dict, "differences": list, "verdicts": dict,
}  # fmt: skip
ROW: dict[str, type | tuple[type, ...]] = {
    "arm": str, "control": str, "role": str, "set": str, "at": (float, int), "metric": str, "mean": float,
    "low": float, "high": float, "p": float, "p_holm": float, "seeds": list, "documents": int,
}  # fmt: skip
CLOSE = 1e-9


def check_results(folder: str | Path) -> dict[str, Any]:
    """The results of a folder, after every difference and sentence came out the same from values.json.

    Errors: SamplewiseError naming the first thing that is missing, of another type, or not what the values give.
    """
    folder = Path(folder)
    with as_written(
        folder, "results as samplewise compare writes them", "Run samplewise compare again to rewrite the results."
    ):
        return _checked(folder)


def _checked(folder: Path) -> dict[str, Any]:
    results, values = (_read(folder / name) for name in (RESULTS, VALUES))
    _check_form(results, FORM, RESULTS)
    if results["schema"] != SCHEMA:
        raise _wrong("schema", SCHEMA, results["schema"])
    for i, row in enumerate(results["differences"]):
        _check_form(row, ROW, f"differences[{i}]")
    _check_counts(results, values)
    found = derived(results, values)
    again = found["differences"]
    if len(again) != len(results["differences"]):
        raise _wrong("differences", f"{len(again)}, as the values give", len(results["differences"]))
    for given, row in zip(results["differences"], again, strict=True):
        _check_row(given, row)
    if found["verdicts"] != results["verdicts"]:
        raise _wrong("verdicts", "the sentences that the differences give", "others")
    if results.get("families", found["families"]) != found["families"]:  # earlier versions did not write them
        raise _wrong("families", "those of the differences", "others")
    for key in found.keys() - {"differences", "verdicts", "families"}:
        if isinstance(found[key], dict):
            _check_row(results.get(key, {}), found[key], key)
        elif results.get(key) != found[key]:
            raise _wrong(key, "what the values give", "others")
    _check_registered(folder, results)
    return results


def _check_registered(folder: Path, results: Mapping[str, Any]) -> None:
    """Check that what was registered before the first arm is what the results state."""
    if not (folder / REGISTERED).exists():
        return
    primary = _read(folder / REGISTERED).get("primary")
    if primary != results.get("asked", {}).get("primary"):
        raise _wrong("primary", f"what {REGISTERED} states", "another comparison")
    if {arm["name"] for arm in results["arms"] if arm.get("later")} != later_arms(folder):
        raise _wrong("arms", f"those marked that {REGISTERED} says were added later", "others")


def _read(path: Path) -> dict[str, Any]:
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise _wrong(str(path), "a JSON file of samplewise compare", str(error)) from None
    if not isinstance(found, dict):
        raise _wrong(str(path), "a JSON object", type(found).__name__)
    return found


def _check_form(found: Mapping[str, Any], form: Mapping[str, Any], place: str) -> None:
    for key, kind in form.items():
        if key not in found:
            raise _wrong(f"{place}.{key}", "a value", "none")
        if not isinstance(found[key], kind):
            raise _wrong(f"{place}.{key}", str(kind), repr(found[key])[:80])


def _check_counts(results: Mapping[str, Any], values: Mapping[str, Any]) -> None:
    """Check that there are as many values as documents everywhere."""
    stages = [values["after"], *values["during"]]
    sets = [
        (f"{arm}, seed {seed}", own) for stage in stages for arm, seeds in stage.items() for seed, own in seeds.items()
    ]
    for place, own in [*sets, *((f"before, {seed}", each) for seed, each in values["before"].items())]:
        for name, losses in own.items():
            expected = len(results["documents"].get(name, []))
            if len(losses) != expected or not all(math.isfinite(loss) for loss in losses):
                raise _wrong(f"{VALUES}: {place}, {name}", f"{expected} finite values", len(losses))


def _check_row(given: Mapping[str, Any], found: Mapping[str, Any], place: str | None = None) -> None:
    if place is None:
        place = f"difference {found['arm']} − {found['control']}, {found['set']}, {found['metric']}, at {found['at']:g}"
    for key, value in found.items():
        theirs = given.get(key)
        same = _close(theirs, value) if isinstance(value, float) else theirs == value
        if not same:
            raise _wrong(f"{place}: {key}", f"{value!r}, as the values give", repr(theirs))


def _close(theirs: object, value: float) -> bool:
    return isinstance(theirs, (int, float)) and math.isclose(theirs, value, rel_tol=CLOSE, abs_tol=CLOSE)


def _wrong(argument: str, expected: str, got: object) -> SamplewiseError:
    return SamplewiseError(
        argument, expected=expected, got=got, remedy="Run samplewise compare again to rewrite the results."
    )

"""Differences that are gone, or turned round, at a fitted temperature: what one number would have done as well."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from samplewise.evidence.sentences import LEVEL

Row = Mapping[str, Any]

EXPLAINED = 0.5
"""Share of a difference that has to go with the temperature before this is said to explain it."""


def temperature_notes(rows: Sequence[Row]) -> list[str]:
    """A sentence for every difference in the loss at the end that is not one at a fitted temperature."""
    tempered = {
        (row["arm"], row["set"]): row for row in rows if row["metric"] == "tempered" and row["role"] == "uniform"
    }
    notes = []
    for row in rows:
        other = tempered.get((row["arm"], f"{row['set']}/tempered"))
        if (row["metric"], row["role"], row["at"]) != ("loss", "uniform", 1) or other is None:
            continue
        if row["p_holm"] >= LEVEL or (other["p_holm"] < LEVEL and other["mean"] * row["mean"] > 0):
            continue
        gone, then = _at_the_temperature(row, other)
        notes.append(
            f"{row['arm']} − {row['control']} on {row['set']}, {row['mean']:+.4f}, {gone} at a fitted temperature "
            f"({other['mean']:+.4f}, {other['low']:+.4f} to {other['high']:+.4f}): {then}."
        )
    return notes


def _at_the_temperature(row: Row, other: Row) -> tuple[str, str]:
    """What becomes of a difference, and what that says. What is not shown after correction may be there."""
    if other["p_holm"] < LEVEL:
        return "has the opposite sign", "how sure the model is of itself explains it"
    if other["mean"] / row["mean"] <= EXPLAINED:
        return "is not shown any more", "how sure the model is of itself explains it"
    return "is not shown after correction", "most of it is left in the mean, so this does not say where it comes from"

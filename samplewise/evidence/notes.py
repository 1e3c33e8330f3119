"""Differences that are gone, or turned round, at a fitted temperature: what one number would have done as well."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from samplewise.evidence.sentences import LEVEL

Row = Mapping[str, Any]


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
        gone = "is not shown any more" if other["p_holm"] >= LEVEL else "has the opposite sign"
        notes.append(
            f"{row['arm']} − {row['control']} on {row['set']}, {row['mean']:+.4f}, {gone} at a fitted temperature "
            f"({other['mean']:+.4f}, {other['low']:+.4f} to {other['high']:+.4f}): how sure the model is of itself "
            "explains it."
        )
    return notes

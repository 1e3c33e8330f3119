"""The ceiling of a labelled corpus: what training on clean documents alone gains, and whether more can be shown."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from samplewise.evidence.plan import HELD_OUT


def ceiling(
    arms: Sequence[Mapping[str, Any]], rows: Sequence[Mapping[str, Any]], min_effect: float, *, seeds: int, stop: bool
) -> dict[str, Any] | None:
    """The oracle's gain over its control, its interval and a sentence; None until both have finished runs.

    seeds: of the plan. stop: whether the plan stops here where the gain is below `min_effect` with 95% confidence; it
    does so once every seed is there.
    """
    oracle = next((arm["name"] for arm in arms if arm["role"] == "oracle"), None)
    row = next((row for row in rows if row["arm"] == oracle and _is_main(row)), None)
    if row is None:
        return None
    gain, low, high = -row["mean"], -row["high"], -row["low"]
    stopped = stop and len(row["seeds"]) == seeds and high < min_effect
    size = f"{gain:+.4f} nats/token, 95% interval {low:+.4f} to {high:+.4f}"
    sentence = f"Ceiling: clean documents alone gain {size}, over {row['control']}."
    if stopped:
        # no bound on every selection: the oracle meets what it keeps more often, and may lose by that
        sentence += (
            f" That is below {min_effect:g}: leaving out all that is labelled gains too little, so the plan stopped."
        )
    return {"gain": gain, "low": low, "high": high, "stopped": stopped, "sentence": sentence}


def _is_main(row: Mapping[str, Any]) -> bool:
    return (row["set"], row["at"], row["metric"], row["role"]) == (HELD_OUT, 1, "loss", "uniform")

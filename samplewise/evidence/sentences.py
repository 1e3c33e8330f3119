"""The sentence about an arm: better, worse, or no difference at this budget."""

from __future__ import annotations

from collections.abc import Mapping, Sequence, Set
from typing import Any

from samplewise.evidence.plan import HELD_OUT

LEVEL = 0.05

Row = Mapping[str, Any]


def verdict(row: Row) -> str:
    """ "better", "worse" or "none": by the p-value after Holm's correction, at 5%.

    With a margin, "not worse" where a difference of that size is excluded, "worse" where it is exceeded, else "none".
    """
    if "margin" in row:
        return "not worse" if row["p_margin"] < LEVEL else "worse" if row["low"] > row["margin"] else "none"
    if row["p_holm"] >= LEVEL:
        return "none"
    return "better" if row["mean"] < 0 else "worse"


def verdicts(rows: Sequence[Row], min_effect: float, later: Set[str] = frozenset()) -> dict[str, dict[str, Any]]:
    """For every arm its verdict and sentence, on the loss of the held-out documents at the end.

    later: the arms that were added when others had been seen.
    """
    found: dict[str, dict[str, Any]] = {}
    for row in rows:
        if (row["set"], row["at"], row["metric"], row["role"]) == (HELD_OUT, 1, "loss", "uniform"):
            beside = [
                other for other in rows
                if (other["arm"], other["set"], other["at"], other["metric"]) == (row["arm"], HELD_OUT, 1, "loss")
                and other["role"] != "uniform"
            ]  # fmt: skip
            parts = [_main(row, min_effect), *filter(None, (_beside(row, other) for other in beside))]
            parts += ["It was added after runs of other arms were finished."] if row["arm"] in later else []
            found[row["arm"]] = {"verdict": verdict(row), "sentence": " ".join(parts)}
    return found


def _main(row: Row, min_effect: float) -> str:
    arm, control = row["arm"], row["control"]
    size = f"{row['mean']:+.4f} nats/token, 95% interval {row['low']:+.4f} to {row['high']:+.4f}"
    count = f"{len(row['seeds'])} seed{'s' * (len(row['seeds']) != 1)} × {row['documents']} documents"
    p = row["p_margin" if "margin" in row else "p_holm"]
    corrected = f"p = {p:.2g}" + (
        f" after Holm over {row['family']}" if row["family"] > 1 and "margin" not in row else ""
    )
    facts = f"({size}; {count}; {corrected}{_covers(row)})"
    found = verdict(row)
    if "margin" in row:
        return f"{arm} {within(found, control, row['margin'])} {facts}."
    if found == "none":
        return f"{arm}: no difference from {control} is shown at this budget {facts}{_what_next(row, min_effect)}"
    share = row.get("share_of_gain")
    gain = f", {abs(share):.1%} of what {control} gained in training" if share is not None else ""
    return f"{arm} is {found} than {control} at this budget{gain} {facts}."


def within(found: str, control: str, margin: float) -> str:
    """A verdict on a margin, in words."""
    return {
        "not worse": f"is not worse than {control} by {margin:g} or more",
        "worse": f"is worse than {control} by more than {margin:g}",
        "none": f"is not shown to be within {margin:g} of {control}",
    }[found]


def _covers(row: Row) -> str:
    return "; fewer than 3 seeds: the interval covers documents only" if row["covers"] == "documents" else ""


def _what_next(row: Row, min_effect: float) -> str:
    if -min_effect < row["low"] and row["high"] < min_effect:
        return f": if there is one, it is below {min_effect:g}."
    if row["covers"] == "documents":
        return "."
    if row["seeds_needed"] is None:
        return f"; no number of seeds brings the interval to ±{min_effect:g}: it takes more documents."
    if row["seeds_needed"] <= len(row["seeds"]):
        return "."
    return f"; an interval of ±{min_effect:g} takes about {row['seeds_needed']} seeds."


def _beside(row: Row, other: Row) -> str:
    """How a control qualifies a win; empty if it does not."""
    if verdict(row) != "better":
        return ""
    size = f"({other['mean']:+.4f}, {other['low']:+.4f} to {other['high']:+.4f})"
    found = verdict(other)
    if other["role"] == "random":
        said = {"better": "It is better than", "worse": "It is worse than", "none": "It is not shown to differ from"}
        return f"{said[found]} a random selection of the same size {size}."
    return "" if found == "better" else f"It does not beat {other['control']} {size}: the win is at one rate only."

"""The conclusion of each question of a probe, in words that the numbers support."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

Found = Mapping[str, Any]


def conclusions(found: Found) -> dict[str, str]:
    """The conclusion for each question, as one paragraph."""
    return {
        "learnability": _learnability(found["learnability"]["quantiles"]),
        "agreement": _agreement(found["agreement"]["cosine"]),
        "noise": _noise(found["noise"]),
        "redundancy": _redundancy(found["redundancy"]),
        "ranking": _ranking(found["ranking"]),
    }


def _span(row: Mapping[str, float]) -> str:
    return f"{row['mean']:+.3f} (95% {row['low']:+.3f} to {row['high']:+.3f})"


def _compared(a: Mapping[str, float], b: Mapping[str, float]) -> int:
    """1 if the interval of a is above that of b, −1 if below, 0 if they overlap."""
    if a["low"] > b["high"]:
        return 1
    return -1 if a["high"] < b["low"] else 0


def _names(places: Sequence[int]) -> str:
    return ", ".join(str(place + 1) for place in places) or "none"


def _learnability(rows: Sequence[Found]) -> str:
    own = [i for i, row in enumerate(rows) if row["excess"]["low"] > 0]
    fell = [i for i, row in enumerate(rows) if row["peers"]["low"] > 0]
    text = (
        f"After the short training on their own peers, losses fell in the quantiles {_names(fell)} of {len(rows)} "
        "(1 is the lowest loss). "
    )
    if own:
        text += (
            f"In {_names(own)} they fell more than after as many windows of other quantiles: these have something of "
            "their own to teach. "
        )
    else:
        text += (
            "In none did they fall more than after as many windows of other quantiles: quantiles of loss are not shown "
            "to be learnt apart. "
        )
    top = rows[-1]
    text += (
        f"In the highest quantile the fall was {_span(top['peers'])} on peers and {_span(top['others'])} on others; "
        f"held-out text fell by {_span(top['held_out'])} after training on it, by {_span(rows[0]['held_out'])} after "
        "training on the lowest."
    )
    return text + " One training of one seed each: differences between trainings are not in the intervals."


def _agreement(rows: Sequence[Mapping[str, float]]) -> str:
    best = max(range(len(rows)), key=lambda i: rows[i]["mean"])
    said = {
        1: "They are apart: the highest losses agree more with held-out text.",
        -1: "They are apart: the highest losses agree less with held-out text.",
        0: "Their intervals meet.",
    }
    return (
        f"The cosine between a sample's gradient of the head and the held-out one is {_span(rows[0])} in the lowest "
        f"quantile of loss and {_span(rows[-1])} in the highest. {said[_compared(rows[-1], rows[0])]} "
        f"It is largest in quantile {best + 1}. The head alone is looked at, at this checkpoint."
    )


def _noise(found: Found) -> str:
    kinds = found["kinds"]
    above = [k for k, v in kinds.items() if v["auc"] - 1.96 * v["error"] > 0.5]
    below = [k for k, v in kinds.items() if v["auc"] + 1.96 * v["error"] < 0.5]
    text = (
        f"A loss above that of clean text marks {', '.join(above) or 'no kind'}; "
        f"one below it marks {', '.join(below) or 'no kind'}. "
    )
    if above and below:
        text += (
            "Noise lies at both ends: a rule that drops high losses keeps the second, one that raises them feeds on "
            "the first. "
        )
    parts = [f"{rule} {v['all']:.0%}" for rule, v in found["weights"].items()]
    given = next(iter(found["weights"].values()))["given"] if found["weights"] else 0.0
    return text + f"Of samples {given:.0%} of which are noise, it gets this share of the weight: {'; '.join(parts)}."


def _redundancy(found: Found) -> str:
    rows, copies = found["compressibility"], found["repeated"]
    said = {1: "more than", -1: "less than", 0: "not shown to differ from"}[_compared(rows[0], rows[-1])]
    return (
        f"zlib saves {rows[0]['mean']:.0%} of the bytes of the lowest quantile of loss, {said} the "
        f"{rows[-1]['mean']:.0%} of the highest (by their intervals). {copies[0]['mean']:.1%} of the lowest and "
        f"{copies[-1]['mean']:.1%} of the highest repeat another document."
    )


def _ranking(rows: Sequence[Found]) -> str:
    if not rows:
        return "Only one model was looked at: name others, or checkpoints, under models."
    parts = [f"{r['first']} and {r['second']}: {r['spearman']:.2f}, {r['top_shared']:.0%}" for r in rows]
    told = "Correlation of ranks between models, and how many of the highest eighth they share (chance: 12%): "
    return f"{told}{'; '.join(parts)}."

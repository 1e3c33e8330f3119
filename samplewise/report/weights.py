"""The histogram of the weights that training samples were given."""

from __future__ import annotations

from typing import Any

from samplewise.evidence.run.history import EDGES, History
from samplewise.report.style import BLUE, GREY


def draw_histogram(axes: Any, history: History, colour: str = BLUE) -> None:
    """Shares of all samples by weight, on an axis of powers of 2; those left out are shown separately on the left."""
    total = max(1, history.samples)
    filled = [i for i, count in enumerate(history.bins) if count]
    low, high = (min(filled), max(filled)) if filled else (len(EDGES) // 2, len(EDGES) // 2)
    low, high = min(low, len(EDGES) // 2 - 4), max(high, len(EDGES) // 2 + 3)  # at least half to double
    places = range(low, high + 1)
    axes.bar(
        [_centre(i) for i in places], [100 * history.bins[i] / total for i in places],
        width=0.23, color=colour, edgecolor="white", linewidth=0.4,
    )  # fmt: skip
    first, last = low // 4 - 8, -(-(high + 1) // 4) - 8  # whole octaves: EDGES[0] is 2^-8
    step = 1 if last - first <= 8 else 2
    octaves = range(first, last + 1, step)
    ticks, labels = [float(k) for k in octaves], [_power(k) for k in octaves]
    if history.left_out:
        at = low / 4 - 8 - 0.9
        share = 100 * history.left_out / total
        axes.bar([at], [share], width=0.5, color=GREY, hatch="//", edgecolor="white", linewidth=0)
        axes.annotate(
            f"{share:.3g}%", (at, share), ha="center", va="bottom", color="#555555", fontsize=10,
            xytext=(0, 2), textcoords="offset points",
        )  # fmt: skip
        ticks, labels = (
            [at, *(k for k in ticks if k > at + 0.6)],
            ["left\nout", *labels[-sum(k > at + 0.6 for k in ticks) :]],
        )
    axes.axvline(0.0, color="#333333", linewidth=1, linestyle=":")
    axes.set_xticks(ticks, labels)
    axes.set_xlabel("weight (1 = uniform)")
    axes.set_ylabel("share of samples, %")
    axes.grid(axis="x", visible=False)


def _centre(place: int) -> float:
    return (place + 0.5) / 4 - 8


def _power(exponent: int) -> str:
    return str(2**exponent) if exponent >= 0 else f"1/{2**-exponent}"

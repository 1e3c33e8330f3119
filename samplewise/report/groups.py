"""The picture of the weights of groups over the steps."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from samplewise.report.style import ARMS, GREY, picture


def draw_groups(path: Path, weights: Mapping[str, Sequence[float]], title: str = "") -> None:
    """Write the picture. weights: by group, one value a step, NaN before a group is met; they sum to 1."""
    with picture(path, 6.4, 3.8) as (_, axes):
        axes.axhline(1 / len(weights), color=GREY, linewidth=1, linestyle=":")
        for k, (name, values) in enumerate(sorted(weights.items(), key=lambda item: -item[1][-1])):
            steps = range(1, len(values) + 1)
            axes.plot(steps, values, color=ARMS[k % len(ARMS)], linewidth=2, alpha=0.9, label=f"group {name}")
        axes.set_ylim(bottom=0)
        axes.set_xlabel("step")
        axes.set_ylabel("weight of the group")
        axes.xaxis.get_major_locator().set_params(integer=True)
        if len(weights) <= 2 * len(ARMS):
            axes.legend(fontsize=9)
        axes.set_title(title, family="DejaVu Sans Mono", fontsize=10)

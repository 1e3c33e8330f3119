"""The curve of a rule: what weight each loss is given."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from samplewise.report.style import BLUE, GREY, picture


def draw_weights(path: Path, losses: Sequence[float], weights: Sequence[float], title: str) -> None:
    """Write the picture of weight against loss. losses: nats/token; weights: mean 1; title: the rule."""
    pairs = sorted(zip(losses, weights, strict=True))
    x, y = [pair[0] for pair in pairs], [pair[1] for pair in pairs]
    with picture(path, 6.4, 3.8) as (_, axes):
        axes.axhline(1.0, color=GREY, linewidth=1, linestyle=":")
        axes.annotate("uniform", (1, 1), xycoords=("axes fraction", "data"), ha="right", va="bottom", color="#666666")
        few = len(x) <= 32
        axes.plot(x, y, color=BLUE, linewidth=1.2 if few else 2, alpha=0.4 if few else 1)
        if few:
            axes.vlines(x, 0, y, color=BLUE, linewidth=1, alpha=0.25)
            axes.plot(x, y, color=BLUE, marker="o", markersize=7, linestyle="none", clip_on=False)
        axes.set_ylim(0, 1.12 * max(1.0, *y))
        axes.set_xlabel("loss, nats per token")
        axes.set_ylabel("weight (mean 1)")
        axes.set_title(title, family="DejaVu Sans Mono", fontsize=10)

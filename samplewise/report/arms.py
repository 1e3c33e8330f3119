"""The picture of several arms trained under the same budget."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from samplewise.evidence import Evaluation, compare
from samplewise.evidence.run.history import History
from samplewise.report.style import ARMS, picture, smoothed, span
from samplewise.report.weights import draw_histogram


def draw_arms(
    path: Path, histories: Mapping[str, History], after: Mapping[str, Sequence[Evaluation]], title: str = ""
) -> None:
    """Write the picture: training curves, held-out difference to the first arm by seed, weights.

    histories: by arm, of one seed; the first arm is what the others are compared with, the last one's weights are
    shown. after: by arm, an evaluation for each seed. There is no interval over documents: it is of one seed alone,
    and seeds differ by more.
    """
    names = list(histories)
    with picture(path, 11, 3.9, ncols=3, width_ratios=(5, 4, 4)) as (figure, (curves, paired, weights)):
        for name, colour in zip(names, ARMS, strict=False):
            values = histories[name].curves["loss"]
            y = smoothed(values, span(len(values)))
            curves.plot(range(1, len(y) + 1), y, color=colour, linewidth=2, label=name, alpha=0.9)
        curves.set_title("Training loss, nats per token")
        curves.set_xlabel("step")
        curves.xaxis.get_major_locator().set_params(integer=True)
        curves.legend(loc="upper center", bbox_to_anchor=(0.5, -0.17), fontsize=9, ncols=3, columnspacing=1.2)
        paired.axvline(0, color=ARMS[0], linewidth=1.2, linestyle="--")
        for place, name in enumerate(names[1:]):
            found = [compare(*pair).difference for pair in zip(after[name], after[names[0]], strict=True)]
            colour = ARMS[(place + 1) % len(ARMS)]
            paired.plot(found, [-place] * len(found), "o", color=colour, markersize=7, alpha=0.8)
            paired.annotate(
                name, (sum(found) / len(found), -place), xytext=(0, 10), textcoords="offset points", ha="center",
                color=colour, fontsize=9, bbox={"facecolor": "white", "edgecolor": "none", "pad": 1},
            )  # fmt: skip
        paired.set_ylim(-len(names) + 1.4, 0.6)
        paired.set_yticks([])
        paired.spines["left"].set_visible(False)
        paired.margins(x=0.35)
        paired.set_title(f"Held-out loss − {names[0]}")
        paired.set_xlabel("nats per token, a point for each seed\n← better · worse →")
        draw_histogram(weights, histories[names[-1]], ARMS[(len(names) - 1) % len(ARMS)])
        weights.set_title(f"Weights: {names[-1]}")
        if title:
            figure.suptitle(title, fontsize=10, color="#555555", x=0.01, ha="left")

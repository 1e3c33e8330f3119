"""The picture of a run: its loss curves and the weights it gave."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from samplewise.evidence import Evaluation
from samplewise.evidence.run.history import History
from samplewise.report.groups import draw_groups
from samplewise.report.style import BLUE, GREEN, ORANGE, picture, smoothed, span
from samplewise.report.weights import draw_histogram

if TYPE_CHECKING:  # what trains needs transformers, what draws does not
    from samplewise.evidence.run.execute import Finished


def draw_finished(finished: Finished) -> None:
    """The pictures of a run in its folder: run.png, and groups.png where its rule learns weights of groups."""
    from samplewise.evidence.run.folder import FIGURE, GROUPS

    draw_run(finished.folder / FIGURE, finished.history, finished.before, finished.after, finished.title)
    if finished.groups:
        draw_groups(finished.folder / GROUPS, finished.groups, finished.results["rule"])


def draw_run(path: Path, history: History, before: Evaluation, after: Evaluation, title: str = "") -> None:
    """Write the picture (.png, .svg or .pdf): curves on the left, weights on the right.

    Curves: the unweighted mean loss of each step, the same smoothed, the weighted one, and the held-out mean over
    documents before and after. title: one line on top.
    """
    with picture(path, 10, 3.9, ncols=2, width_ratios=(3, 2)) as (figure, (left, right)):
        steps, window = list(range(1, history.steps + 1)), span(history.steps)
        loss, weighted = history.curves["loss"], history.curves["weighted_loss"]
        if window > 1:
            left.plot(steps, loss, color=BLUE, linewidth=0.8, alpha=0.3)
        told = f", mean of {window} steps" if window > 1 else ""
        left.plot(steps, smoothed(loss, window), color=BLUE, linewidth=2, label=f"training, unweighted{told}")
        left.plot(
            steps,
            smoothed(weighted, window),
            color=ORANGE,
            linewidth=1.6,
            linestyle="--",
            label=f"training, weighted{told}",
        )
        left.plot(
            [0, history.steps], [before.mean, after.mean], color=GREEN, marker="D", markersize=7, linestyle="none",
            label="held out, mean over documents", clip_on=False, zorder=5,
        )  # fmt: skip
        for x, y, side in ((0, before.mean, 8), (history.steps, after.mean, -8)):
            left.annotate(
                f"{y:.3f}", (x, y), xytext=(side, 9), textcoords="offset points", color="#005C43",
                ha="left" if side > 0 else "right",
                bbox={"facecolor": "white", "edgecolor": "none", "alpha": 0.8, "pad": 1}, zorder=6,
            )  # fmt: skip
        left.margins(y=0.18)
        left.set_title("Loss, nats per token")
        left.set_xlabel("step")
        left.xaxis.get_major_locator().set_params(integer=True)
        left.legend(loc="upper center", bbox_to_anchor=(0.5, -0.18), ncols=1, handlelength=2.6)
        draw_histogram(right, history)
        ess = sum(history.curves["ess"]) / max(1, history.steps)
        right.set_title(f"Weights (effective samples {ess:.0%})")
        if title:
            figure.suptitle(title, fontsize=10, color="#555555", x=0.01, ha="left")

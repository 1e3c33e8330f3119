"""One style for all pictures: few lines, colours for colour-blind readers, text that is legible at README width."""

from __future__ import annotations

import io
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from samplewise.core.errors import missing_extra
from samplewise.core.replaced import write_whole

BLUE, ORANGE, GREEN, PURPLE, GREY = "#0072B2", "#D55E00", "#009E73", "#CC79A7", "#8A8A8A"  # Okabe and Ito's
ARMS = (GREY, BLUE, ORANGE, GREEN, PURPLE)

LOOK: dict[Any, Any] = {
    "font.size": 11, "font.family": "DejaVu Sans", "axes.titlesize": 12, "axes.titleweight": "bold",
    "axes.titlelocation": "left", "axes.titlepad": 10, "axes.spines.top": False, "axes.spines.right": False,
    "axes.edgecolor": "#555555", "axes.labelcolor": "#333333", "xtick.color": "#555555", "ytick.color": "#555555",
    "axes.grid": True, "grid.color": "#E6E6E6", "grid.linewidth": 0.8, "axes.axisbelow": True,
    "legend.frameon": False, "legend.fontsize": 10, "figure.facecolor": "white", "savefig.facecolor": "white",
}  # fmt: skip


@contextmanager
def picture(path: Path, width: float, height: float, **grid: Any) -> Iterator[tuple[Any, Any]]:
    """(figure, axes) to draw on; written to `path` at the end, whole or not at all. width, height: inches."""
    try:
        import matplotlib
        from matplotlib.backends.backend_agg import FigureCanvasAgg
        from matplotlib.figure import Figure
    except ModuleNotFoundError:
        raise missing_extra("matplotlib", "report", "pictures") from None
    with matplotlib.rc_context(LOOK):
        figure = Figure(figsize=(width, height), layout="constrained")
        FigureCanvasAgg(figure)
        axes = figure.subplots(**grid)
        yield figure, axes
        file = io.BytesIO()
        form = path.suffix.lstrip(".").lower() or "png"
        figure.savefig(file, format=form, dpi=160)
    write_whole(path, file.getvalue())


def smoothed(values: Sequence[float], window: int) -> list[float]:
    """Means over the last `window` values (fewer at the start)."""
    totals = [0.0]
    for value in values:
        totals.append(totals[-1] + value)
    return [(totals[i] - totals[max(0, i - window)]) / min(i, window) for i in range(1, len(totals))]


def span(count: int) -> int:
    """Over how many steps a curve of so many is smoothed: a tenth, and at least 1."""
    return max(1, count // 10)

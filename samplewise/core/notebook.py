"""What rules, plans and results look like in a notebook: one small table or drawing each, without a library."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from html import escape

WIDTH, HEIGHT = 260, 90


def table(rows: Mapping[str, object], title: str = "") -> str:
    """A table of names and values; numbers with four digits.

    >>> table({"ess": 0.5})
    '<table><tr><td>ess</td><td>0.5</td></tr></table>'
    """
    head = f"<caption>{escape(title)}</caption>" if title else ""
    body = "".join(f"<tr><td>{escape(name)}</td><td>{escape(_told(value))}</td></tr>" for name, value in rows.items())
    return f"<table>{head}{body}</table>"


def curve(x: Sequence[float], y: Sequence[float], below: str) -> str:
    """A line over x, from 0 up, with what its axes are underneath."""
    low, high, most = min(x), max(x), max(*y, 1e-12)
    points = " ".join(
        f"{WIDTH * (a - low) / ((high - low) or 1):.1f},{HEIGHT - (HEIGHT - 6) * b / most:.1f}"
        for a, b in zip(x, y, strict=True)
    )
    line = f'<polyline points="{points}" fill="none" stroke="#1f77b4" stroke-width="2"/>'
    ground = f'<line x1="0" y1="{HEIGHT}" x2="{WIDTH}" y2="{HEIGHT}" stroke="gray"/>'
    return (
        f'<svg width="{WIDTH}" height="{HEIGHT + 2}" role="img">{ground}{line}</svg><br><small>{escape(below)}</small>'
    )


def bars(counts: Iterable[tuple[str, int]], below: str) -> str:
    """Bars beside each other, one a (name, count)."""
    given = list(counts)
    most, step = max((count for _, count in given), default=0) or 1, WIDTH / max(len(given), 1)
    drawn = "".join(
        f'<rect x="{i * step:.1f}" y="{HEIGHT * (1 - count / most):.1f}" width="{step * 0.85:.1f}" '
        f'height="{HEIGHT * count / most:.1f}" fill="#1f77b4"><title>{escape(name)}: {count}</title></rect>'
        for i, (name, count) in enumerate(given)
    )
    return f'<svg width="{WIDTH}" height="{HEIGHT}" role="img">{drawn}</svg><br><small>{escape(below)}</small>'


def _told(value: object) -> str:
    return f"{value:.4g}" if isinstance(value, float) else str(value)

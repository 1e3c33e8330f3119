"""The contents of each quantile of the loss: where its samples come from, and how some of them begin."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Any

import numpy as np

OPENING = 120


def bands(
    losses: np.ndarray, quantile: np.ndarray, texts: Sequence[str], groups: Sequence[str], examples: int
) -> list[dict[str, Any]]:
    """For each quantile `samples`, the `low`, `high` and `mean` loss, the share of `groups`, and `examples`.

    losses [N], nats/token. quantile [N]. texts, groups: N. examples: texts shown of a quantile, at evenly spaced ranks
    by loss, each `{"loss", "group", "opening"}`. Groups are ordered by their share, then by name.

    >>> found = bands(np.array([1.0, 2.0]), np.array([0, 1]), ["a  b", "c"], ["x", "x"], 1)
    >>> found[0]["groups"], found[0]["examples"]
    ({'x': 1.0}, [{'loss': 1.0, 'group': 'x', 'opening': 'a b'}])
    """
    return [_band(losses, np.flatnonzero(quantile == q), texts, groups, examples) for q in range(quantile.max() + 1)]


def _band(
    losses: np.ndarray, inside: np.ndarray, texts: Sequence[str], groups: Sequence[str], examples: int
) -> dict[str, Any]:
    ordered = inside[np.argsort(losses[inside], kind="stable")]
    middles = (np.arange(examples) + 0.5) * len(ordered) / max(1, examples)
    shown: list[int] = ordered[np.unique(middles.astype(int))].tolist()
    counts = Counter(groups[i] for i in inside)
    by_share = sorted(counts.items(), key=lambda each: (-each[1], each[0]))
    return {
        "samples": len(inside), "low": float(losses[ordered[0]]), "high": float(losses[ordered[-1]]),
        "mean": float(losses[inside].mean()),
        "groups": {name: n / len(inside) for name, n in by_share},
        "examples": [
            {"loss": float(losses[i]), "group": groups[i], "opening": opening(texts[i])} for i in shown
        ],
    }  # fmt: skip


def opening(text: str) -> str:
    """The first characters of a text on one line; whole words, with an ellipsis where more follows.

    >>> opening("one two\\n three"), opening("word " * 40)[-12:]
    ('one two three', 'd word word…')
    """
    line = " ".join("".join(c if c.isprintable() else " " for c in text).split())
    return line if len(line) <= OPENING else f"{line[:OPENING].rsplit(' ', 1)[0]}…"

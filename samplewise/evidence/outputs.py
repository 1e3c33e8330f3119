"""What an evaluation keeps of a model's outputs beside the losses: hits of the likeliest token, losses at temperatures.

A model can lower a loss by being less sure of itself everywhere, which one number does as well: the temperature that
its outputs are divided by. It is fitted on half of the documents and used on the other half, both ways round.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor

from samplewise.losses.token_losses import IGNORED

Measure = Literal["tempered", "accuracy"]
GRID = np.arange(-5, 9) / 10
"""Logarithms of the temperatures that losses are taken at: 0.61 to 2.23. A cubic is laid between them, which is exact
to about 1e-5 nats."""
FINE = np.arange(-100, 161) / 200


class Outputs:
    """Sums over the predicted tokens of every row: hits [W] and losses at the temperatures of `GRID` [W, K], nats."""

    def __init__(self, rows: int) -> None:
        self.hits, self.nats = np.zeros(rows), np.zeros((rows, len(GRID)))

    def take(self, rows: Sequence[int], logits: Tensor, labels: Tensor) -> None:
        """Add a batch. rows: their numbers [B]; logits [B, T, V]; labels [B, T], not shifted."""
        targets = labels[:, 1:]
        counted, logits = targets.ne(IGNORED), logits[:, :-1].float()
        self.hits[rows] = ((logits.argmax(-1) == targets) & counted).sum(1).cpu().numpy()
        chosen = logits.gather(-1, targets.clamp(min=0).unsqueeze(-1)).squeeze(-1)
        for k, scale in enumerate(np.exp(-GRID).tolist()):
            nats = torch.logsumexp(logits * scale, -1) - chosen * scale
            self.nats[rows, k] = torch.where(counted, nats, 0.0).double().sum(1).cpu().numpy()

    def by_document(self, windows: Sequence[Any], measures: Sequence[str]) -> dict[str, Any]:
        """The measures by document, in the order of its first window, as run files have those of benchmarks."""
        places = {name: i for i, name in enumerate(dict.fromkeys(window.doc_id for window in windows))}
        sums = np.zeros((len(places), 2 + len(GRID)))
        own = np.column_stack([[window.tokens for window in windows], self.hits, self.nats])
        np.add.at(sums, [places[window.doc_id] for window in windows], own)
        losses = sums[:, 2:] / sums[:, :1]
        fitted, temperatures = tempered(losses)
        every = {"tempered": fitted, "accuracy": sums[:, 1] / sums[:, 0]}
        values = {name: every[name].tolist() for name in measures}
        return {
            "values": values, "figures": {name: float(every[name].mean()) for name in measures},
            "items": list(places), "temperatures": temperatures,
        }  # fmt: skip


def tempered(losses: np.ndarray) -> tuple[np.ndarray, list[float]]:
    """([D] losses at the temperature fitted on the other half of the documents, the two temperatures).

    losses: [D, K] at the temperatures of `GRID`. The halves are every other document; one document alone is both.

    >>> found, temperatures = tempered(np.array([(GRID - 0.3) ** 2 + 1.0] * 4))
    >>> found.round(6).tolist(), [round(float(np.log(each)), 3) for each in temperatures]
    ([1.0, 1.0, 1.0, 1.0], [0.3, 0.3])
    """
    found, temperatures = np.zeros(len(losses)), []
    halves = [np.arange(len(losses)) % 2 == k for k in (0, 1)]
    for own, other in (halves, halves[::-1]):
        fit_on = losses[other] if other.any() else losses[own]
        means = fit_on.mean(0)
        best = float(FINE[np.argmin([_between(means, at) for at in FINE])])
        found[own] = _between(losses[own], best)
        temperatures.append(float(np.exp(best)))
    return found, temperatures


def _between(losses: np.ndarray, at: float) -> np.ndarray:
    """[...] by the cubic through the four points of the grid around `at`. losses: [..., K]."""
    first = int(np.clip(np.searchsorted(GRID, at) - 2, 0, len(GRID) - 4))
    points = GRID[first : first + 4]
    weights = [
        np.prod([(at - other) / (point - other) for other in points if other != point]) for point in points
    ]  # of Lagrange
    return losses[..., first : first + 4] @ np.array(weights)

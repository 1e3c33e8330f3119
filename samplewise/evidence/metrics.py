"""Figures of an evaluation as means over documents, so that all of them have the same interval.

A metric turns losses [S, D] into values [S, D] whose mean over documents is the figure under each seed. For the mean of
the worst decile these are q + max(L − q, 0)·D/k with q the k-th largest loss (the tail mean's influence function).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

Documents = Sequence[Mapping[str, Any]]

UNITS = {
    "loss": "nats/token",
    "worst_decile": "nats/token",
    "worst_group": "nats/token",
    "bits_per_byte": "bits/byte",
}
"""Metrics of a set of documents; lower is better."""


def loss(values: np.ndarray, documents: Documents) -> np.ndarray:
    """[S, D]: every document counts the same."""
    return values


def worst_decile(values: np.ndarray, documents: Documents) -> np.ndarray:
    """[S, D]: means over documents are those over each seed's worst tenth, rounded up.

    >>> losses = np.arange(20.0)[None]
    >>> float(worst_decile(losses, []).mean()), float(losses[0, -2:].mean())
    (18.5, 18.5)
    """
    D = values.shape[1]
    k = math.ceil(D / 10)
    q = np.sort(values, axis=1)[:, D - k, None]
    return q + np.maximum(values - q, 0.0) * D / k


TAIL = 6
"""Documents that the worst decile must have to be compared over documents alone. With fewer, its interval is far too
narrow: two equal arms are distinguished in 8% of cases with 5, in 28% with 2, and always with 1, which has no
variance."""


def bits_per_byte(values: np.ndarray, documents: Documents) -> np.ndarray:
    """[S, D]: means over documents are all nats over all bytes, in bits."""
    tokens = np.array([document["tokens"] for document in documents], float)
    size = float(np.mean([document["bytes"] for document in documents]))
    return values * tokens / (math.log(2) * size)


METRICS: dict[str, Callable[[np.ndarray, Documents], np.ndarray]] = {
    "loss": loss,
    "worst_decile": worst_decile,
    "bits_per_byte": bits_per_byte,
}


def metrics_for(documents: int, *, over_seeds: bool) -> list[str]:
    """The metrics that so many documents can be compared by. over_seeds: whether the interval covers seeds as well.

    >>> metrics_for(50, over_seeds=False), metrics_for(51, over_seeds=False) == list(METRICS)
    (['loss', 'bits_per_byte'], True)
    """
    enough = over_seeds or math.ceil(documents / 10) >= TAIL
    return [name for name in METRICS if enough or name != "worst_decile"]


GROUP = 5
"""Documents that a group must have: the worst of many tiny ones is the one with the unluckiest document."""


def worst_group(control: np.ndarray, documents: Documents) -> tuple[str, list[int]] | None:
    """(name, places) of the group of documents that the control does worst on; None below two groups of `GROUP`."""
    places: dict[str, list[int]] = {}
    for i, document in enumerate(documents):
        if document.get("group") is not None:
            places.setdefault(str(document["group"]), []).append(i)
    usable = {name: own for name, own in places.items() if len(own) >= GROUP}
    if len(usable) < 2:
        return None
    return max(usable.items(), key=lambda item: (float(control[:, item[1]].mean()), item[0]))

"""What an arm's tokens cost under a budget of FLOPs: each model's by its own size, on the arm's own training text."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from itertools import islice
from typing import Any

import numpy as np

from samplewise.core.errors import SamplewiseError
from samplewise.evidence.plan import ArmConfig
from samplewise.evidence.run.prepared import Prepared
from samplewise.losses.token_losses import IGNORED
from samplewise.models import load_model
from samplewise.models.flops import ForwardCost, forward_cost

STREAMED = 1000
"""Rows of a stream whose lengths stand for all."""


@dataclass(frozen=True)
class Prices:
    """FLOPs of the forward of a predicted token in the trained and in the reference model, and of what came before."""

    trained: float = 0.0
    reference: float = 0.0
    prior: float = 0.0

    def spent(self, units: int, reference: int) -> float:
        """FLOPs of a history's units, of which `reference` are the reference model's, and of what came before."""
        return (units - reference) * self.trained + reference * self.reference + self.prior


def prices_of(model: Any, data: Prepared, config: ArmConfig) -> Prices:
    """The prices of an arm whose {seed}s are filled in.

    Rows are taken as the text has them: packed or dropped ones cost the mean too.
    Errors: SamplewiseError naming a model whose size is not known.
    """
    rows = row_sizes(data.train)

    def price(name: str | None) -> float:
        return 0.0 if name is None else _cost_of(name).per_token(rows)

    prior, learner = config.prior, config.prior.learner or config.reference_model
    before = prior.scored * (price(prior.scorer) if prior.scored else 0.0)
    before += 3 * prior.trained * (price(learner) if prior.trained else 0.0)
    return Prices(forward_cost(model).per_token(rows), price(config.reference_model), before)


def row_sizes(train: Any) -> Sequence[tuple[int, int]]:
    """(positions, predicted tokens) of the rows of a training text."""
    windows = getattr(train, "windows", None)
    if windows is None:  # instructions: what is no target has the label -100, and no row predicts its first token
        rows = train.with_format("numpy", columns=["input_ids", "labels"]) if hasattr(train, "with_format") else train
        return [(len(row["input_ids"]), int((np.asarray(row["labels"])[1:] != IGNORED).sum())) for row in rows]
    some = windows if isinstance(windows, list) else islice(windows(), STREAMED)
    return [(len(window.input_ids), window.tokens) for window in some]


@cache
def _cost_of(name: str) -> ForwardCost:
    try:
        return forward_cost(load_model(name)[0], name)
    except SamplewiseError as error:
        raise SamplewiseError(
            name, expected="a model whose number of parameters can be counted", got=str(error)[:300],
            remedy="Name its folder, hub id or .gguf file, or use budget: {compute: …}, which counts tokens.",
        ) from None  # fmt: skip

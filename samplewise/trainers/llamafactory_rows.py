"""Rows and micro-batches of LLaMA-Factory's v1 in this library's terms; nothing of LLaMA-Factory is imported."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from torch import Tensor

from samplewise.core.columns import COLUMNS, TOKEN_WEIGHTS
from samplewise.losses.token_losses import IGNORED
from samplewise.trainers.identify import checked

WEIGHTS = "loss_weights"  # one a token, from the `loss_weight` of its message
NOT_INPUTS = frozenset({*COLUMNS, WEIGHTS, "labels"})


class FieldsRenderer:
    """LLaMA-Factory's renderer, whose rows keep the columns of samples.

    A value stands at every position of its row: what pads or truncates rows then does not lose it.
    """

    def __init__(self, renderer: Any) -> None:
        self.renderer, self.processor = renderer, renderer.processor

    def process_samples(self, samples: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
        """The rows of `renderer`, with the columns that the samples have."""
        rows = self.renderer.process_samples(samples)
        for row, sample in zip(rows, samples, strict=True):
            given = {name: checked(name, sample[name]) for name in COLUMNS if name in sample}
            row |= {name: np.full(len(row["input_ids"]), value) for name, value in given.items()}
        return rows


def micro_batch(batch: Mapping[str, Any]) -> dict[str, Tensor]:
    """A padded batch of v1 as `WeightedStep` takes it: its `loss_weights` weigh the tokens within a sample."""
    inputs = {key: each for key, each in batch.items() if isinstance(each, Tensor) and key not in NOT_INPUTS}
    columns = {name: batch[name][:, 0] for name in COLUMNS if name in batch}
    labels = batch["labels"].masked_fill(batch[WEIGHTS] == 0, IGNORED)
    return {**inputs, **columns, "labels": labels, TOKEN_WEIGHTS: batch[WEIGHTS].float()}

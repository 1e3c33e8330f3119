"""Batches of a sampler that packs: a list of rows for each row of the batch, as multipack samplers hand them over."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from samplewise.core.columns import SEGMENTS
from samplewise.core.errors import SamplewiseError
from samplewise.losses.segments import POSITION, in_one_row, numbered_runs

Bins = Sequence[Sequence[Mapping[str, Any]]]
"""For each row of the batch, the dataset's rows that it holds."""


def is_bins(features: Sequence[Any]) -> bool:
    """Whether each feature is a list of rows."""
    return isinstance(features[0], list)


def collate_bins(collate: Callable[[list[Any]], Any], bins: Bins) -> dict[str, Any]:
    """The batch that `collate` makes of the bins, as one flat row of segments: positions restart, no attention mask.

    The bins' lengths say where samples begin, so it does not matter whether a mask numbers them. One flat row is what
    two passes cut and pack again; attention that builds the whole mask computes more for it than for a row a bin.
    Errors: SamplewiseError where the tokens are not those of the rows, in order, from the left.
    """
    lengths = [[len(row["input_ids"]) for row in own] for own in bins]
    tokens = [torch.as_tensor(row["input_ids"]) for own in bins for row in own]
    batch = dict(collate([list(map(dict, own)) for own in bins]))
    ids = batch["input_ids"]
    longest = max(map(sum, lengths))
    if len(ids) == len(bins) and ids.shape[1] >= longest:
        segments, position = numbered_runs(_numbers(lengths, ids.shape[1]))
        if torch.equal(ids.flatten()[segments[0] >= 0], torch.cat(tokens).to(ids.dtype)):
            return in_one_row(batch, ids.shape) | {SEGMENTS: segments, POSITION: position}
    raise SamplewiseError(
        "data_collator", expected=f"{len(bins)} rows that hold the tokens of {len(tokens)} samples, in order, from the "
        "left", got=f"input_ids of shape {tuple(ids.shape)} that hold others",
        remedy="Pack with the Trainer's own collator, and tokenizer.padding_side='right'.",
    )  # fmt: skip


def _numbers(lengths: list[list[int]], width: int) -> Tensor:
    """[B, width] 1, 1, 2, … in each row, 0 for padding."""
    rows = [torch.repeat_interleave(torch.arange(1, len(own) + 1), torch.tensor(own)) for own in lengths]
    return torch.stack([torch.nn.functional.pad(row, (0, width - len(row))) for row in rows])

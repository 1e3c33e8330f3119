"""Micro-batches as rows: cut a step's micro-batches, and deal the kept rows into as few full ones as possible.

A gradient is a sum over rows with known coefficients, so which micro-batch a row stands in is free. Rows of like
length are put together, which saves padding as well.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise

import torch
import torch.nn.functional as F
from torch import Tensor

from samplewise.losses import IGNORED
from samplewise.types import SamplewiseError

Batch = dict[str, Tensor]

ID = "sample_id"  # [B] int64
MASS = "samplewise_mass"  # [B] fp64: what a sample counts before it is weighed
COEFFICIENT = "samplewise_coefficient"  # [B] fp64: what its loss counts in the step, once that is known
LAST = "samplewise_last"  # on the step's last micro-batch
OURS = frozenset({ID, MASS, COEFFICIENT, LAST})
"""Keys of a micro-batch that the model never sees."""

FILL = {"labels": IGNORED, "shift_labels": IGNORED}
"""What a padded position holds; 0 for every other key: the attention mask decides, not the id of the token."""


def is_left_padded(batch: Batch) -> bool:
    """Whether some row has padding before its first token."""
    return bool(_first_after_padding(batch).any())


def without_padding_as_context(batch: Batch) -> Batch:
    """A micro-batch whose rows do not depend on how far they are padded on the left.

    The first token of a padded row would be predicted from padding: its label becomes −100, as a row's first token
    has no prediction elsewhere. Positions count from that token, for models with absolute ones. If one micro-batch
    of a step needs it, all of them do, so that their rows have the same keys.
    """
    mask = batch.get("attention_mask")
    seen = (torch.ones_like(batch["labels"]) if mask is None else mask != 0).cumsum(1)
    return {"position_ids": (seen - 1).clamp(min=0), **_unpredicted_first(batch)}


def _unpredicted_first(batch: Batch) -> Batch:
    return {**batch, "labels": batch["labels"].masked_fill(_first_after_padding(batch), IGNORED)}


def _first_after_padding(batch: Batch) -> Tensor:
    """[B, T] bool: the first token of each row that has padding before it."""
    mask, labels = batch.get("attention_mask"), batch["labels"]
    if mask is None or mask.shape != labels.shape:
        return torch.zeros_like(labels, dtype=torch.bool)
    first = (mask != 0) & ((mask != 0).cumsum(1) == 1)
    first[:, :1] = False
    return first


@dataclass(frozen=True)
class Row:
    """One row of a micro-batch without its padding: tensors [length, …] by position, and the rest as it was."""

    sequence: dict[str, Tensor]
    other: dict[str, Tensor]
    length: int
    left: bool  # padded on the left


def rows(batch: Mapping[str, Tensor]) -> list[Row]:
    """The rows of a padded micro-batch, each cut to the span that is attended to or predicted.

    Errors: SamplewiseError naming the key whose first dimension is not the number of rows.
    """
    count, width = batch["labels"].shape
    for key, value in batch.items():
        if not isinstance(value, Tensor) or value.dim() == 0 or value.shape[0] != count:
            raise SamplewiseError(
                key, expected=f"a tensor of {count} rows, so that dropped rows can be left out",
                got=f"shape {tuple(value.shape)}" if isinstance(value, Tensor) else type(value).__name__,
                remedy="Let the data collator return row-wise tensors only.",
            )  # fmt: skip
    used = batch["labels"].ne(IGNORED)
    mask = batch.get("attention_mask")
    used = used | (mask != 0 if mask is not None and mask.shape == used.shape else torch.ones_like(used))
    position = torch.arange(width, device=used.device)
    start = torch.where(used, position, width).amin(1).tolist() if width else [0] * count
    stop = (torch.where(used, position, -1).amax(1) + 1).tolist() if width else [0] * count
    left = any(0 < begin < end for begin, end in zip(start, stop, strict=True))
    by_position = {k for k, v in batch.items() if v.dim() >= 2 and v.shape[1] == width}
    return [
        Row(
            {k: batch[k][i, start[i] : stop[i]] for k in by_position},
            {k: v[i] for k, v in batch.items() if k not in by_position},
            max(0, stop[i] - start[i]),
            left,
        )
        for i in range(count)
    ]


def collate(given: Sequence[Row]) -> Batch:
    """One micro-batch of these rows, padded to the longest on the side they came padded on."""
    width = max(row.length for row in given)
    left = any(row.left for row in given)
    if odd := {key for row in given for key in set(row.sequence) ^ set(given[0].sequence)}:
        raise SamplewiseError(
            min(odd), expected="a value for each position in every micro-batch, or in none", got="some of each",
            remedy="Its second dimension happens to be a batch's width: give it another shape, or drop it.",
        )  # fmt: skip
    batch = {key: _stacked(key, [row.other[key] for row in given]) for key in given[0].other}
    for key in given[0].sequence:
        padded = [_pad(row.sequence[key], width - row.length, FILL.get(key, 0), left) for row in given]
        batch[key] = torch.stack(padded)
    return _unpredicted_first(batch)


def deal(kept: Sequence[Row], template: Row, size: int, count: int) -> list[Batch]:
    """The rows in `count` micro-batches whose sizes differ by one at most.

    template: any row of the step, which says what a blank one looks like. size: rows that fit into a micro-batch.
    count: how many micro-batches the rank with the most rows needs; every rank must make as many calls, so one short
    of rows runs blank ones.
    """
    count = max(count, math.ceil(len(kept) / size), 1)
    kept = sorted(kept, key=lambda row: row.length) + [_blank(template)] * (count - len(kept))
    bounds = [round(k * len(kept) / count) for k in range(count + 1)]
    return [collate(kept[a:b]) for a, b in pairwise(bounds)]


def without_empty_rows(batch: Batch) -> Batch:
    """The micro-batch without rows that predict nothing; one of blank rows if none does."""
    predicts = (batch["labels"][:, 1:] != IGNORED).any(1).tolist()
    if all(predicts):
        return batch
    given = rows(batch)
    return collate([row for row, kept in zip(given, predicts, strict=True) if kept] or [_blank(given[0])])


def _blank(row: Row) -> Row:
    """Two positions that predict nothing, and coefficient 0: a forward and a backward that add no gradient."""
    sequence = {
        key: torch.full((2, *value.shape[1:]), FILL.get(key, 0), dtype=value.dtype, device=value.device)
        for key, value in row.sequence.items()
    }
    if "attention_mask" in sequence:
        sequence["attention_mask"].fill_(1)
    return Row(sequence, {key: torch.zeros_like(value) for key, value in row.other.items()}, 2, row.left)


def _stacked(key: str, values: list[Tensor]) -> Tensor:
    if any(value.shape != values[0].shape for value in values):
        raise SamplewiseError(
            key, expected="rows of one shape in all micro-batches of a step, or one value for each position",
            got=" and ".join(sorted({str(tuple(value.shape)) for value in values})),
            remedy="Rows of different micro-batches are put together: give a mask as [B, T].",
        )  # fmt: skip
    return torch.stack(values)


def _pad(value: Tensor, missing: int, fill: int, left: bool) -> Tensor:
    if missing == 0:
        return value
    trailing = [0, 0] * (value.dim() - 1)
    return F.pad(value, [*trailing, missing, 0] if left else [*trailing, 0, missing], value=fill)

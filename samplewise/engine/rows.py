"""Micro-batches as rows: cut a step's micro-batches, and deal the kept rows into as few full ones as possible.

A gradient is a sum over rows with known coefficients, so which micro-batch a row stands in is free. A row here is what
depends on nothing else in its micro-batch: a row of a padded one, or a segment of a packed one. Rows of like length are
put together, which saves padding as well.
"""

from __future__ import annotations

import heapq
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from samplewise.core.columns import BY_SAMPLE, ID, SEGMENTS, Batch
from samplewise.core.errors import SamplewiseError
from samplewise.losses.segments import DERIVED, POSITION, boundaries
from samplewise.losses.token_losses import IGNORED, token_counts

FILL = {"labels": IGNORED, "shift_labels": IGNORED, SEGMENTS: -1}
"""What a padded position holds; 0 for every other key: the attention mask decides, not the id of the token."""


def is_left_padded(batch: Batch) -> bool:
    """Whether some row has padding before its first token."""
    return bool(_first_after_padding(batch).any())


def is_packed(batch: Mapping[str, Any]) -> bool:
    """Whether it is one row of segments that see only themselves, by their positions."""
    packed = SEGMENTS in batch and POSITION in batch and "attention_mask" not in batch
    return packed and len(batch["labels"]) == 1


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
    """A row of a padded micro-batch without its padding, or a segment of a packed one.

    sequence: tensors [length, …] by position; the map of segments counts this row's samples from 0. other: the row's
    tensors that are not by position. samples: [k] each, the fields of its k samples (one, unless it is cut in turns).
    left: padded on the left. packed: which boundaries its micro-batch gave the model; None for a padded one.
    """

    sequence: dict[str, Tensor]
    other: dict[str, Tensor]
    samples: dict[str, Tensor]
    length: int
    left: bool = False
    packed: frozenset[str] | None = None

    @property
    def size(self) -> int:
        """What it takes of a micro-batch's room: one row, or its tokens."""
        return 1 if self.packed is None else self.length


def room(batch: Batch) -> int:
    """What a micro-batch holds, in the unit of `Row.size`."""
    return batch["labels"].numel() if is_packed(batch) else len(batch["labels"])


def rows(batch: Mapping[str, Any]) -> list[Row]:
    """The rows of a micro-batch: each cut to the span that is attended to or predicted, or to its segment.

    Errors: SamplewiseError naming the key whose first dimension is not the number of rows.
    """
    return _segments(batch) if is_packed(batch) else _padded_rows(batch)


def _padded_rows(batch: Mapping[str, Any]) -> list[Row]:
    count, width = batch["labels"].shape
    _check_rows({key: value for key, value in batch.items() if key not in BY_SAMPLE}, count)
    used = batch["labels"].ne(IGNORED)
    mask = batch.get("attention_mask")
    used = used | (mask != 0 if mask is not None and mask.shape == used.shape else torch.ones_like(used))
    position = torch.arange(width, device=used.device)
    start = torch.where(used, position, width).amin(1).tolist() if width else [0] * count
    stop = (torch.where(used, position, -1).amax(1) + 1).tolist() if width else [0] * count
    left = any(0 < begin < end for begin, end in zip(start, stop, strict=True))
    rest = batch.keys() - BY_SAMPLE
    by_position = {k for k in rest if batch[k].dim() >= 2 and batch[k].shape[1] == width}
    samples = _samples_by_row(batch, count)
    return [
        Row(
            _own_segments({k: batch[k][i, start[i] : stop[i]] for k in by_position}),
            {k: batch[k][i] for k in rest - by_position},
            samples[i],
            max(0, stop[i] - start[i]),
            left,
        )
        for i in range(count)
    ]


def _check_rows(batch: Mapping[str, Any], count: int) -> None:
    for key, value in batch.items():
        if not isinstance(value, Tensor) or value.dim() == 0 or value.shape[0] != count:
            raise SamplewiseError(
                key, expected=f"a tensor of {count} rows, so that dropped rows can be left out",
                got=f"shape {tuple(value.shape)}" if isinstance(value, Tensor) else type(value).__name__,
                remedy="Let the data collator return row-wise tensors only.",
            )  # fmt: skip


def _samples_by_row(batch: Mapping[str, Any], count: int) -> list[dict[str, Tensor]]:
    """The fields of each row's samples, which are numbered row after row."""
    fields = {key: batch[key] for key in BY_SAMPLE & batch.keys()}
    if SEGMENTS not in batch:
        return [{key: value[i : i + 1] for key, value in fields.items()} for i in range(count)]
    stop = [0, *(batch[SEGMENTS].amax(1) + 1).tolist()]
    return [{key: value[a:b] for key, value in fields.items()} for a, b in pairwise(stop)]


def _segments(batch: Mapping[str, Any]) -> list[Row]:
    """The segments of a packed row, from one start of the positions to the next; padding is left behind."""
    derived = frozenset(DERIVED) & batch.keys()
    fields = {key: batch[key] for key in BY_SAMPLE & batch.keys()}
    rest = {key: value for key, value in batch.items() if key not in derived and key not in BY_SAMPLE}
    width = batch["labels"].shape[1]
    _check_rows(rest, 1)
    by_position = {key: value[0] for key, value in rest.items() if value.dim() >= 2 and value.shape[1] == width}
    other = {key: value[0] for key, value in rest.items() if key not in by_position}
    owner = by_position[SEGMENTS]
    starts = [*(by_position[POSITION] == 0).nonzero().squeeze(1).tolist(), width]
    found = []
    for begin, end in pairwise(starts):
        if int(owner[begin]) >= 0:
            samples = slice(int(owner[begin]), int(owner[end - 1]) + 1)
            sequence = _own_segments({key: value[begin:end] for key, value in by_position.items()})
            own = {key: value[samples] for key, value in fields.items()}
            found.append(Row(sequence, other, own, end - begin, packed=derived))
    return found


def _own_segments(sequence: dict[str, Tensor]) -> dict[str, Tensor]:
    if SEGMENTS not in sequence or not len(sequence[SEGMENTS]):
        return sequence
    owner = sequence[SEGMENTS]
    return {**sequence, SEGMENTS: torch.where(owner >= 0, owner - owner.clamp(min=0).min(), -1)}


def collate(given: Sequence[Row]) -> Batch:
    """One micro-batch of these rows: padded to the longest on the side they came padded on, or packed into one row."""
    if odd := {key for row in given for key in set(row.sequence) ^ set(given[0].sequence)}:
        raise SamplewiseError(
            min(odd), expected="a value for each position in every micro-batch, or in none", got="some of each",
            remedy="Its second dimension happens to be a batch's width: give it another shape, or drop it.",
        )  # fmt: skip
    batch = {key: torch.cat([row.samples[key] for row in given]) for key in given[0].samples}
    packed = given[0].packed
    sequences = _numbered(given)
    if packed is not None:
        batch |= {key: value[None] for key, value in given[0].other.items()}
        batch |= {key: torch.cat([sequence[key] for sequence in sequences])[None] for key in sequences[0]}
        return {**batch, **boundaries(batch[POSITION], packed)}  # pyright: ignore[reportReturnType]
    width = max(row.length for row in given)
    left = any(row.left for row in given)
    batch |= {key: _stacked(key, [row.other[key] for row in given]) for key in given[0].other}
    for key in given[0].sequence:
        values, fill = [sequence[key] for sequence in sequences], FILL.get(key, 0)
        batch[key] = torch.stack([_pad(value, width - len(value), fill, left) for value in values])
    return _unpredicted_first(batch)


def _numbered(given: Sequence[Row]) -> list[dict[str, Tensor]]:
    """The rows' sequences, with their samples numbered one row after the other."""
    if SEGMENTS not in given[0].sequence:
        return [row.sequence for row in given]
    first, out = 0, []
    for row in given:
        owner = row.sequence[SEGMENTS]
        out.append({**row.sequence, SEGMENTS: torch.where(owner >= 0, owner + first, -1)})
        first += len(row.samples[ID])
    return out


def micro_batches_needed(sizes: Sequence[int], capacity: int) -> int:
    """How few micro-batches hold rows of these sizes, at least one; `spread` then stays within the capacity.

    >>> micro_batches_needed([1, 1, 1], 2), micro_batches_needed([5, 4, 4, 3], 8)
    (2, 2)
    """
    count = max(1, math.ceil(sum(sizes) / capacity))
    if max(sizes, default=1) == 1:  # rows of a padded micro-batch
        return count
    while count < len(sizes) and max(_loads(sizes, count)) > capacity:
        count += 1
    return count


def _loads(sizes: Sequence[int], count: int) -> list[int]:
    return [sum(sizes[i] for i in part) for part in spread(sizes, count)]


def spread(sizes: Sequence[int], count: int) -> list[list[int]]:
    """The rows' numbers in `count` parts: the largest first, each to the part that is emptiest so far.

    >>> spread([5, 4, 4, 3], 2)
    [[0, 3], [1, 2]]
    """
    parts: list[list[int]] = [[] for _ in range(count)]
    loads = [(0, part) for part in range(count)]  # a heap: 65,536 rows are dealt in every step of a large run
    for i in sorted(range(len(sizes)), key=lambda i: -sizes[i]):
        load, least = loads[0]
        parts[least].append(i)
        heapq.heapreplace(loads, (load + sizes[i], least))
    return parts


def deal(kept: Sequence[Row], template: Row, size: int, count: int) -> list[Batch]:
    """The rows in `count` micro-batches of like sizes: of rows as near in number as can be, or of tokens.

    template: any row of the step, which says what a blank one looks like. size: what fits into a micro-batch.
    count: how many micro-batches the rank with the most rows needs; every rank must make as many calls, so one short
    of rows runs blank ones.
    """
    if template.packed is not None:
        parts = spread([row.length for row in kept], max(count, 1))
        return [collate([kept[i] for i in sorted(part)] or [_blank(template)]) for part in parts]
    count = max(count, math.ceil(len(kept) / size), 1)
    kept = sorted(kept, key=lambda row: row.length) + [_blank(template)] * (count - len(kept))
    bounds = [round(k * len(kept) / count) for k in range(count + 1)]
    return [collate(kept[a:b]) for a, b in pairwise(bounds)]


def without_empty_rows(batch: Batch) -> Batch:
    """The micro-batch without rows that predict nothing; one of blank rows if none does."""
    if bool((token_counts(batch["labels"], segments=batch.get(SEGMENTS)) > 0).all()):
        return batch
    given = rows(batch)
    kept = [row for row in given if _predicts(row)]
    if len(kept) == len(given):
        return batch
    return collate(kept or [_blank(given[0])])


def _predicts(row: Row) -> bool:
    return bool((row.sequence["labels"][1:] != IGNORED).any())


def _blank(row: Row) -> Row:
    """Two positions that predict nothing, and coefficient 0: a forward and a backward that add no gradient."""
    sequence = {
        key: torch.full((2, *value.shape[1:]), FILL.get(key, 0), dtype=value.dtype, device=value.device)
        for key, value in row.sequence.items()
    }
    if "attention_mask" in sequence:
        sequence["attention_mask"].fill_(1)
    if SEGMENTS in sequence:
        sequence[SEGMENTS].zero_()
    if row.packed is not None:
        sequence[POSITION].copy_(torch.arange(2))
    other = {key: torch.zeros_like(value) for key, value in row.other.items()}
    samples = {key: torch.zeros_like(value[:1]) for key, value in row.samples.items()}
    return Row(sequence, other, samples, 2, row.left, row.packed)


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

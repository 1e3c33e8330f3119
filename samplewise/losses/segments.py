"""Samples that are not rows: segments of a packed row, and turns of a conversation.

Shapes: B rows, T positions, n samples of a micro-batch.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, TypeGuard

import torch
from torch import Tensor

from samplewise.core.columns import ID, SEGMENTS
from samplewise.core.errors import SamplewiseError
from samplewise.core.host import host, positions
from samplewise.losses.token_losses import IGNORED

POSITION = "position_ids"
MASK = "attention_mask"
DERIVED = ("cu_seq_lens_q", "cu_seq_lens_k", "max_length_q", "max_length_k", "seq_idx")
"""What collators add to the positions of a packed row, for kernels that want boundaries ready made."""


def segments_of(lengths: list[int], width: int) -> Tensor:
    """[1, width] the sample of each position of one row that holds samples of these lengths, then padding (-1).

    >>> segments_of([2, 1], 4)
    tensor([[ 0,  0,  1, -1]])
    """
    filled = torch.repeat_interleave(torch.arange(len(lengths)), torch.tensor(lengths, dtype=torch.int64))
    return torch.nn.functional.pad(filled, (0, width - len(filled)), value=-1)[None]


def numbered_runs(mask: Tensor) -> tuple[Tensor, Tensor]:
    """The samples that an attention mask numbers: 1, 1, 2, 2, 3 in a row, 0 for padding.

    mask: [B, T] int. Returns [1, B·T] each: the sample of each position, −1 for padding, row after row; and its place
    within its run, which is 0 where a sample or padding begins.

    >>> numbered_runs(torch.tensor([[1, 1, 2, 0], [1, 2, 2, 2]]))
    (tensor([[ 0,  0,  1, -1,  2,  3,  3,  3]]), tensor([[0, 1, 0, 0, 0, 0, 1, 2]]))
    """
    starts = torch.ones_like(mask, dtype=torch.bool)
    starts[:, 1:] = mask[:, 1:] != mask[:, :-1]
    flat, inside = starts.flatten(), mask.flatten() > 0
    place = torch.arange(len(flat), device=mask.device)
    position = place - torch.where(flat, place, 0).cummax(0).values
    return torch.where(inside, (flat & inside).cumsum(0) - 1, -1)[None], position[None]


def read_numbered_mask(batch: Mapping[str, Any]) -> dict[str, Any]:
    """The batch with the samples that its attention mask numbers as segments of one flat row.

    A mask of zeros and ones numbers nothing: the batch comes back as it is. Otherwise positions restart at each sample
    and the mask is gone, since models that read it as true or false would let samples see one another.
    Cost: one look at the mask. Errors: SamplewiseError where there are not as many `sample_id` as samples.
    """
    mask = batch.get(MASK)
    if SEGMENTS in batch or not is_numbered(mask):
        return dict(batch)
    segments, position = numbered_runs(mask)
    count = int(host(segments).max()) + 1
    if ID in batch and len(batch[ID]) != count:
        raise SamplewiseError(
            ID, expected=f"one for each of the {count} samples that {MASK} numbers", got=len(batch[ID]),
            remedy="Collate with samplewise.trainers.collate.FieldsCollator(your_collator), which numbers them.",
        )  # fmt: skip
    return in_one_row(batch, mask.shape) | {POSITION: position, SEGMENTS: segments}


def is_numbered(mask: Any) -> TypeGuard[Tensor]:
    """Whether it is an attention mask [B, T] of integers, some above 1."""
    return _can_number(mask) and bool(host(mask).max() > 1)


def _can_number(mask: Any) -> TypeGuard[Tensor]:
    whole = isinstance(mask, Tensor) and mask.dim() == 2 and not mask.is_floating_point() and mask.dtype != torch.bool
    return whole and mask.numel() > 0


def in_one_row(batch: Mapping[str, Any], shape: torch.Size) -> dict[str, Any]:
    """The batch with every value by position, [B, T, …], as [1, B·T, …], and without its attention mask."""
    return {
        key: value.flatten(0, 1)[None] if isinstance(value, Tensor) and value.shape[:2] == shape else value
        for key, value in batch.items()
        if key != MASK
    }


def split_turns(labels: Tensor, segments: Tensor | None) -> tuple[Tensor, Tensor]:
    """Every unbroken run of predicted labels becomes a sample of its own, with what stands before it as its context.

    labels: [B, T]. segments: [B, T] the samples so far, or None where they are the rows.
    Returns [B, T] the new samples, and [n] the old sample that each is part of. What stands after a sample's last run
    belongs to that run; a sample without a run stays one.

    >>> labels = torch.tensor([[-100, 5, 6, -100, 7, -100]])
    >>> split_turns(labels, None)
    (tensor([[0, 0, 0, 1, 1, 1]]), tensor([0, 0]))
    """
    rows = torch.arange(len(labels), device=labels.device)[:, None].expand_as(labels)
    old = (rows if segments is None else segments).reshape(-1)
    inside = old >= 0
    flat, own = labels.reshape(-1)[inside], old[inside]
    predicted = flat != IGNORED
    ends = predicted.clone()  # the last position of a run: the next is not predicted, or another sample's
    ends[:-1] &= ~predicted[1:] | (own[1:] != own[:-1])
    count = torch.zeros(int(host(own).max()) + 1, dtype=torch.int64, device=own.device).index_add(0, own, ends.long())
    done = ends.long().cumsum(0) - ends.long()  # runs that ended before, over all samples
    first = count.cumsum(0) - count  # the same at each sample's start
    turn = torch.minimum(done - first[own], (count[own] - 1).clamp(min=0))
    turns = count.clamp(min=1)
    start = turns.cumsum(0) - turns
    out = torch.full_like(old, -1)
    out[inside] = start[own] + turn
    parent = torch.repeat_interleave(torch.arange(len(count), device=own.device), turns)
    return out.view_as(labels), parent


def nested_ids(ids: Tensor, number: Tensor) -> Tensor:
    """[n] 63-bit ids of parts of samples: part 0 keeps its whole's id, later ones mix in their number.

    ids: [n] the id of the whole that each is part of; number: [n] which part it is.

    >>> nested_ids(torch.tensor([7, 7]), torch.tensor([0, 1])).tolist()
    [7, 330297237870011559]
    """
    mixed = (ids ^ (number * -7046029254386353131)) * -4658895280553007687  # SplitMix64's odd constants
    mixed = (mixed ^ (mixed >> 29)) * -7723592293110705685
    return torch.where(number == 0, ids, (mixed ^ (mixed >> 32)) & (2**63 - 1))


def part_numbers(parent: Tensor) -> Tensor:
    """[n] 0, 1, … within each run of one parent.

    >>> part_numbers(torch.tensor([0, 0, 1, 2, 2])).tolist()
    [0, 1, 0, 0, 1]
    """
    position = torch.arange(len(parent), device=parent.device)
    new = torch.ones_like(parent, dtype=torch.bool)
    new[1:] = parent[1:] != parent[:-1]
    return position - torch.where(new, position, 0).cummax(0).values


def boundaries(position: Tensor, names: frozenset[str]) -> dict[str, Tensor | int]:
    """Those of `DERIVED` that are named, for one packed row. position: [1, T], 0 at each start."""
    starts = positions(position[0] == 0)
    edges = torch.cat([starts, starts.new_tensor([position.shape[1]])]).to(torch.int32)
    found: dict[str, Tensor | int] = {}
    for name in names:
        if name.startswith("cu_seq_lens"):
            found[name] = edges
        elif name.startswith("max_length"):
            found[name] = int(host(edges.diff()).max())
        else:
            count = torch.arange(len(edges) - 1, dtype=torch.int32, device=position.device)
            found[name] = torch.repeat_interleave(count, edges.diff().long())[None]
    return found

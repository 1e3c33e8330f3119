"""A step's batches as micro-batches: all that the host reads of them comes in one copy, before anything is asked."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from samplewise.core.columns import COLUMNS, SEGMENTS, TOKEN_WEIGHTS
from samplewise.core.host import fetched
from samplewise.core.micro_batch import MicroBatch, check_labels, on_host, read_micro_batch
from samplewise.losses.segments import MASK, POSITION, is_numbered, read_numbered_mask

OWN = (*COLUMNS, SEGMENTS, TOKEN_WEIGHTS, "labels")
"""What this library reads, and the model does not."""


def read_step(
    batches: Sequence[Mapping[str, Any] | MicroBatch], device: torch.device, *, own_loss: bool
) -> list[MicroBatch]:
    """A step's micro-batches: inputs on the device, fields on the host; for a loss of one's own all on the device.

    Samples that an attention mask numbers are segments of one row.
    Errors: SamplewiseError without sample_id; without token labels, except for a loss of one's own.
    """
    known = fetched({} if isinstance(batch, MicroBatch) else _read(batch, own_loss) for batch in batches)
    given = [
        batch if isinstance(batch, MicroBatch) else _micro_batch(batch, own)
        for batch, own in zip(batches, known, strict=True)
    ]
    if own_loss:
        return [micro.to(device) for micro in given]
    check_labels(given)
    return on_host([micro.inputs_to(device) for micro in given])


def _read(batch: Mapping[str, Any], own_loss: bool) -> dict[str, Tensor]:
    """What the host reads of a batch. A loss of one's own reads labels and token weights itself."""
    names = {*COLUMNS, MASK} if own_loss else {*OWN, MASK, POSITION}
    if SEGMENTS not in batch or MASK in batch:
        names -= {POSITION}
    return {name: batch[name] for name in names if isinstance(batch.get(name), Tensor)}


def _micro_batch(batch: Mapping[str, Any], known: dict[str, Tensor]) -> MicroBatch:
    own = {**batch, **{name: value for name, value in known.items() if name in OWN}}
    if SEGMENTS not in batch and is_numbered(known.get(MASK)):
        return read_micro_batch(read_numbered_mask({**own, MASK: known[MASK]}))
    return read_micro_batch(own, attended=known.get(MASK), position=known.get(POSITION))

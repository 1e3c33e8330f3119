"""Rows that do not depend on how far they are padded on the left."""

from __future__ import annotations

from dataclasses import replace

import torch
from torch import Tensor

from samplewise.core.distributed import gather_fields
from samplewise.core.errors import SamplewiseError
from samplewise.core.host import host
from samplewise.core.micro_batch import MicroBatch, attended_of
from samplewise.losses.segments import POSITION
from samplewise.losses.token_losses import IGNORED


def without_left_padding(batches: list[MicroBatch], device: torch.device) -> tuple[list[MicroBatch], int]:
    """A step's micro-batches whose rows do not depend on padding, and how many labels nothing predicts any more.

    Cost: a gather of two integers. Errors: SamplewiseError on all ranks unless they have as many micro-batches.
    """
    counts = torch.tensor([len(batches), int(any_left_padded(batches))])
    every, _ = gather_fields({"count": counts[:1], "left": counts[1:]}, device)
    if len(set(every["count"].tolist())) > 1:
        raise SamplewiseError(
            "micro_batches", expected="as many micro-batches on every rank", got=every["count"].tolist(),
            remedy="Leave out an epoch's last step where it is not full on all ranks.",
        )  # fmt: skip
    if not host(every["left"]).any():
        return batches, 0
    changed = [without_padding_as_context(micro) for micro in batches]
    gone = [host(old.targets != new.targets).sum() for old, new in zip(batches, changed, strict=True)]
    return changed, int(sum(gone))


def any_left_padded(batches: list[MicroBatch]) -> bool:
    """Whether some row has padding before its first token."""
    return any(micro.labels is not None and bool(host(_first_after_padding(micro)).any()) for micro in batches)


def without_padding_as_context(micro: MicroBatch) -> MicroBatch:
    """The micro-batch with each row's first token unpredicted, and positions that count from it.

    The first token of a row padded on the left would be predicted from padding: its label becomes −100, as a row's
    first token has no prediction elsewhere. Positions count from that token, for models with absolute ones. If one
    micro-batch of a step needs this, all of them do, so that their rows have the same keys.
    """
    attended = attended_of(micro)
    seen = (torch.ones_like(micro.targets) if attended is None else attended).cumsum(1)
    positions = {POSITION: (seen - 1).clamp(min=0).to(micro.device), **micro.inputs}
    return unpredicted_first(replace(micro, inputs=positions))


def unpredicted_first(micro: MicroBatch) -> MicroBatch:
    """The micro-batch with the label of each left-padded row's first token masked."""
    return replace(micro, labels=micro.targets.masked_fill(_first_after_padding(micro), IGNORED))


def _first_after_padding(micro: MicroBatch) -> Tensor:
    """[B, T] bool: the first token of each row that has padding before it."""
    attended = attended_of(micro)
    if attended is None:
        return torch.zeros_like(micro.targets, dtype=torch.bool)
    first = attended & (attended.cumsum(1) == 1)
    first[:, :1] = False
    return first

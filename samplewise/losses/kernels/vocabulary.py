"""A head whose vocabulary is split over ranks: each has some rows, and the losses are those of the whole.

The largest logit and the sum of exponentials are reduced over the group, two collectives of a number a token for each
chunk (three with a tally). The head's gradient is each rank's own; that of the hidden states is summed once a pass.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from samplewise.core.distributed import reduce_
from samplewise.losses.kernels.residual import Head, block_bytes


@dataclass(frozen=True)
class Shard:
    """Which rows of a head of `vocabulary` rows a rank has: those from `first` on.

    group: the torch.distributed process group of its `ranks` ranks. All of them have some rows, and are given the same
    hidden states, labels, weights and factors.
    """

    group: Any
    ranks: int
    first: int
    vocabulary: int

    @property
    def widest(self) -> int:
        """The most rows of a rank: what chunks are cut by, on every rank alike."""
        return -(-self.vocabulary // self.ranks)


@dataclass
class _Sums:
    """What a rank knows of each token of a chunk, [c]: of its own logits z.

    largest: max z. total: Σ exp(z − largest). spread: Σ exp(z − largest)·(z − largest). own: the label's z, 0 where
    another rank has it. place: which of the whole vocabulary is the largest.
    """

    largest: Tensor
    total: Tensor
    spread: Tensor
    own: Tensor
    place: Tensor

    def over(self, shard: Shard) -> _Sums:
        """Those of the whole vocabulary, the same on every rank."""
        largest = reduce_(self.largest.clone(), "max", shard.group)
        by = torch.where(self.total > 0, self.largest - largest, 0)  # 0 of a rank that has only −inf
        scale = by.exp()
        parts = torch.stack([scale * self.total, scale * (self.spread + by * self.total), self.own])
        total, spread, own = reduce_(parts, "sum", shard.group)
        return _Sums(largest, total, spread, own, self.place)

    def highest(self, whole: _Sums, shard: Shard) -> Tensor:
        """[c] the label with the largest logit, the first of equal ones."""
        place = torch.where(self.largest == whole.largest, self.place, shard.vocabulary)
        return reduce_(place, "min", shard.group)


def residual_(
    shard: Shard, head: Head, logits: Tensor, label: Tensor, gradient: bool, tally: Tensor | None = None,
    clean: bool = True,
) -> Tensor:  # fmt: skip
    """Token losses [c], the same on every rank; with `gradient`, `logits` [c, V of this rank] becomes the residual.

    As `residual.residual_` of the whole head; the other arguments are those.
    """
    mine = (label >= shard.first) & (label < shard.first + logits.shape[1])
    at = torch.where(mine, label - shard.first, 0)
    blocks = _blocks(head, logits)
    parts = [_sums(head, logits[block].to(head.wide), at[block], mine[block], shard.first) for block in blocks]
    own = _Sums(*(torch.cat([getattr(part, name) for part in parts]) for name in _Sums.__annotations__))
    whole = own.over(shard)
    loss = whole.total.log() + (whole.largest - whole.own)
    if tally is not None:
        entropy = (whole.total.log() - whole.spread / whole.total).clamp(min=0)
        tally.copy_(torch.stack([entropy, (own.highest(whole, shard) == label).to(entropy)]))
    for block in blocks if gradient else ():
        z = logits[block].to(head.wide)
        slope = head.cap_(z)
        z = (z - whole.largest[block, None]).exp_().div_(whole.total[block, None])
        row, there = torch.arange(len(z), device=z.device), mine[block]
        z[row, at[block]] = torch.where(there, torch.expm1(-loss[block]), z[row, at[block]])
        if slope is not None:
            z.mul_(slope)
        if clean:
            z.masked_fill_(~loss[block].isfinite()[:, None], 0.0)
        logits[block] = z.mul_(head.gain)
    return loss


def _blocks(head: Head, logits: Tensor) -> list[slice]:
    step = max(1, block_bytes(logits.device) // (logits.shape[1] * head.wide.itemsize))
    return [slice(i, i + step) for i in range(0, len(logits), step)]


def _sums(head: Head, z: Tensor, at: Tensor, mine: Tensor, first: int) -> _Sums:
    """Of a block of logits [c, V of this rank]."""
    z = z.clone() if head.softcap is not None else z
    head.cap_(z)
    largest, place = z.max(-1)
    own = torch.where(mine, z[torch.arange(len(z), device=z.device), at], 0)
    z = z - torch.where(largest == -torch.inf, 0, largest)[:, None]
    e = z.exp()
    return _Sums(largest, e.sum(-1), torch.where(e > 0, e * z, 0).sum(-1), own, place + first)

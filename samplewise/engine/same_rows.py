"""Do ranks that hold parts of the same layers have the same rows? Seen in every step, in an exchange it makes anyway.

Other rows would not show by themselves: the layers mix them up, and losses and gradients are those of no row.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence

import torch
from torch import Tensor

from samplewise.core.distributed import among, gather_fields, rank
from samplewise.core.errors import SamplewiseError
from samplewise.core.host import host
from samplewise.core.micro_batch import MicroBatch
from samplewise.engine.base_weights import own_base_weight
from samplewise.engine.parallel import ParallelRanks

MAX_NAMED = 8
"""Ids of a rank that an error names."""


def total_base_weight(
    batches: Sequence[MicroBatch], ranks: ParallelRanks, device: torch.device, *, step: int, inputs: bool
) -> float:
    """The base weights of a step's samples, summed over the ranks that differ in rows; among those, others agree.

    inputs: compare what the model takes too, which waits for a device that has it; else ids and labels, on the host.
    Cost: one `gather_fields` of a number a rank, of three where tensor parallelism gives several ranks the same rows.
    Errors: the same SamplewiseError on all ranks where such ranks have different rows.
    """
    own = own_base_weight(batches)
    if ranks.same is None:
        return float(host(gather_fields({"base_weight": own}, device)[0]["base_weight"]).sum())
    with among(ranks.data):
        group = rank()
    with among(ranks.same):
        once = own if rank() == 0 else torch.zeros_like(own)
    with among(None):
        mine = {"base_weight": once, "group": torch.tensor([group]), "rows": _name(batches, inputs)}
        every, _ = gather_fields(mine, device)
        _check(every["group"].tolist(), every["rows"].tolist(), batches, step, device)
    return float(host(every["base_weight"]).sum())


def _name(batches: Sequence[MicroBatch], inputs: bool) -> Tensor:
    """[1] int64, the first 8 bytes of the SHA-256 of a rank's rows."""
    seen = hashlib.sha256()
    for micro in batches:
        for values in (micro.id, micro.labels, *(micro.inputs.values() if inputs else ())):
            seen.update(b"" if values is None else host(values).tobytes())
        seen.update(b"|")  # the same rows in other micro-batches are others
    return torch.frombuffer(bytearray(seen.digest()[:8]), dtype=torch.int64)


def _check(
    groups: list[int], names: list[int], batches: Sequence[MicroBatch], step: int, device: torch.device
) -> None:  # fmt: skip
    """groups, names: of every rank's rows. Where they differ, all ranks exchange ids, and raise the same error."""
    split = _split(groups, names)
    if split is None:
        return
    every, spans = gather_fields({"id": torch.cat([micro.id for micro in batches]).cpu()}, device)
    have = {rank: every["id"][spans[rank]].tolist() for rank, group in enumerate(groups) if group == split}
    common = set.intersection(*map(set, have.values()))
    rest = {rank: [each for each in ids if each not in common] for rank, ids in have.items()}
    found = ", ".join(f"{_some(ids)} on rank {rank}" for rank, ids in rest.items() if ids)
    raise SamplewiseError(
        f"rows of step {step}",
        expected=f"the same on ranks {' '.join(map(str, have))}, which hold parts of the same layers",
        got=f"ids that not all of them have: {found}" if found else "the same ids, but other tokens, labels or order",
        remedy="Draw rows by the number of the tensor-parallel group, not of the rank, with one seed for its ranks.",
    )  # fmt: skip


def _split(groups: list[int], names: list[int]) -> int | None:
    """The first group whose ranks differ.

    >>> _split([0, 0, 1, 1], [7, 7, 8, 9])
    1
    """
    seen: dict[int, int] = {}
    return min((g for g, name in zip(groups, names, strict=True) if seen.setdefault(g, name) != name), default=None)


def _some(ids: list[int]) -> str:
    return " ".join(map(str, ids[:MAX_NAMED])) + (" …" if len(ids) > MAX_NAMED else "")

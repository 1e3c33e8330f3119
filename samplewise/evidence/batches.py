"""The batches of an evaluation: rows of like length together, as many as fill a batch, collated once for all arms."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from samplewise.data import PadCollator


@dataclass(frozen=True)
class Batch:
    """rows: their numbers in the evaluation's windows. tensors: the collated batch, with labels."""

    rows: list[int]
    tensors: dict[str, Tensor]


def batches_of(windows: Sequence[Any], *, pad_token_id: int, batch_size: int) -> list[Batch]:
    """Every window once, shortest first. Cost: 24 bytes a position, on the CPU.

    batch_size: rows of the longest window; of shorter ones a batch has as many as take no more positions.
    """
    collate = PadCollator(pad_token_id)
    return [Batch(rows, collate([_row(windows[i]) for i in rows])) for rows in _filled(windows, batch_size)]


def _filled(windows: Sequence[Any], batch_size: int) -> Iterator[list[int]]:
    lengths = [len(window.input_ids) for window in windows]
    most = batch_size * max(lengths)
    rows: list[int] = []
    for i in sorted(range(len(windows)), key=lambda i: (lengths[i], i)):  # equal lengths need no padding
        if rows and (len(rows) + 1) * lengths[i] > most:
            yield rows
            rows = []
        rows.append(i)
    yield rows


def _row(window: Any) -> dict[str, Tensor]:
    return {name: torch.from_numpy(getattr(window, name)).long() for name in ("input_ids", "labels")}

"""Rows of different lengths to one batch."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence


@dataclass(frozen=True)
class PadCollator:
    """Pads a batch of rows on the right to its longest: [B, T] int64 each, sample_id [B] int64 where rows have one.

    The attention mask follows the lengths, never the ids, so that a pad token that is also EOS hides no real EOS.

    >>> rows = [
    ...     {"input_ids": [5, 6, 7], "labels": [5, 6, 7], "sample_id": 1},
    ...     {"input_ids": [5], "labels": [5], "sample_id": 2},
    ... ]
    >>> batch = PadCollator(0)(rows)
    >>> batch["labels"].tolist(), batch["attention_mask"].tolist()
    ([[5, 6, 7], [5, -100, -100]], [[1, 1, 1], [1, 0, 0]])
    """

    pad_token_id: int

    def __call__(self, rows: Sequence[Mapping[str, Any]]) -> dict[str, Tensor]:
        """Pad the rows to one length and stack them into a batch."""
        ids = [torch.as_tensor(row["input_ids"]) for row in rows]
        labels = [torch.as_tensor(row["labels"]) for row in rows]
        batch = {
            "input_ids": pad_sequence(ids, batch_first=True, padding_value=self.pad_token_id),
            "attention_mask": pad_sequence([torch.ones_like(row) for row in ids], batch_first=True),
            "labels": pad_sequence(labels, batch_first=True, padding_value=-100),
        }
        if "sample_id" in rows[0]:
            batch["sample_id"] = torch.tensor([int(row["sample_id"]) for row in rows], dtype=torch.int64)
        return batch

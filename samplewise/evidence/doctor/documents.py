"""The samples of an examination: random tokens, each sample with a weight of its own, padded or packed.

Shapes: n samples, B rows, T positions.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

IGNORED = -100


@dataclass(frozen=True)
class Documents:
    """n token sequences of 2 or more, numbered, each with the weight that its data gives it."""

    ids: list[Tensor]
    weight: Tensor

    def __len__(self) -> int:
        return len(self.ids)


Batch = dict[str, Tensor]


def random_documents(vocabulary: int, count: int, longest: int, device: torch.device, seed: int = 0) -> Documents:
    """`count` documents of a quarter of `longest` tokens and more, the last of all of them; weights from 0.5 to 2."""
    draw = torch.Generator().manual_seed(seed)
    lengths = torch.randint(max(2, longest // 4), longest + 1, (count,), generator=draw).tolist()
    lengths[-1] = longest
    ids = [torch.randint(3, vocabulary, (length,), generator=draw).to(device) for length in lengths]
    return Documents(ids, 0.5 + 1.5 * torch.rand(count, generator=draw))


def even_rows(vocabulary: int, rows: int, length: int, device: torch.device, seed: int = 0) -> Batch:
    """[rows, length] of full rows, for time and memory."""
    ids = torch.randint(3, vocabulary, (rows, length), generator=torch.Generator().manual_seed(seed)).to(device)
    return {"input_ids": ids, "labels": ids.clone()}


def padded(documents: Documents, index: Sequence[int]) -> Batch:
    """A row for each document, filled up on the right."""
    rows = [documents.ids[i] for i in index]
    ids = torch.nn.utils.rnn.pad_sequence(rows, batch_first=True)
    mask = torch.nn.utils.rnn.pad_sequence([torch.ones_like(row) for row in rows], batch_first=True)
    return {"input_ids": ids, "attention_mask": mask, "labels": ids.masked_fill(mask == 0, IGNORED)}


def packed(documents: Documents, index: Sequence[int]) -> Batch:
    """One row of all of them: positions start anew with each."""
    rows = [documents.ids[i] for i in index]
    position = torch.cat([torch.arange(len(row), device=row.device) for row in rows])[None]
    owner = torch.cat([torch.full_like(row, number) for number, row in enumerate(rows)])[None]
    ids = torch.cat(rows)[None]
    labels = ids.masked_fill(position == 0, IGNORED)
    return {"input_ids": ids, "labels": labels, "position_ids": position, "samplewise_segments": owner}


def micro_batches(documents: Documents, form: str, parts: Sequence[Sequence[int]]) -> list[Batch]:
    """What a loop gives `WeightedStep.plan`: one micro-batch for each part, with ids and weights of the samples."""
    make = packed if form == "packed" else padded
    return [
        {**make(documents, part), "sample_id": torch.tensor(list(part)), "sample_weight": documents.weight[list(part)]}
        for part in parts
    ]

"""A look at a model before it trains: a few tokens of a batch, in eval mode, without leaving a trace."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from samplewise.core.errors import SamplewiseError

CHECKED_ROWS, CHECKED_LENGTH = 2, 32


def few_tokens(batch: Mapping[str, Any]) -> tuple[dict[str, Tensor], Tensor]:
    """The first real tokens of the first rows or packed documents, padded right: left padding must not hide them.

    What the batch has one value a row of (PolyLoRA's task_ids) comes with them.
    """
    ids = batch["input_ids"]
    mask, position = batch.get("attention_mask"), batch.get("position_ids")
    mask = torch.ones_like(ids) if mask is None or mask.shape != ids.shape else mask
    if position is None or position.dim() != 2 or position.shape[1] != ids.shape[1]:
        position = torch.arange(ids.shape[1], device=ids.device)[None]
    documents = [
        (part[:CHECKED_LENGTH], number)
        for number, (row, real, place) in enumerate(zip(ids, mask.bool(), position.expand_as(ids), strict=True))
        for part in row[real].tensor_split(_restarts(place[real]))
    ]
    chosen = [(part, number) for part, number in documents if len(part) > 1][:CHECKED_ROWS]
    rows, numbers = [part for part, _ in chosen], [number for _, number in chosen]
    if not rows:
        raise SamplewiseError(
            "batch", expected="a row of two tokens or more", got=f"input_ids {tuple(ids.shape)}",
            remedy="Check the model on a batch with tokens to predict.",
        )  # fmt: skip
    padded = nn.utils.rnn.pad_sequence(rows, batch_first=True)
    real = nn.utils.rnn.pad_sequence([torch.ones_like(r) for r in rows], batch_first=True)
    inputs = {key: value[numbers] for key, value in batch.items() if _by_row(value, len(ids))}
    return {**inputs, "input_ids": padded, "attention_mask": real}, padded.masked_fill(real == 0, -100).long()


def _by_row(value: Any, rows: int) -> bool:
    return isinstance(value, Tensor) and value.shape == (rows,)


def _restarts(position: Tensor) -> list[int]:
    """Where position ids [T] fall or stand still: a document begins there."""
    return ((position[1:] <= position[:-1]).nonzero().squeeze(1) + 1).tolist()


def losses_from_logits(logits: Tensor, labels: Tensor) -> Tensor:
    """[B] mean loss of each row, nats/token."""
    target = labels[:, 1:]
    token = nn.functional.cross_entropy(logits[:, :-1].transpose(1, 2), target, reduction="none")
    return token.sum(1) / (target != -100).sum(1)

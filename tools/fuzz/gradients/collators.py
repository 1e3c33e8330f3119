"""Rows to micro-batches, as users' collators make them."""

from __future__ import annotations

from typing import Any

import torch
from torch.nn.functional import pad
from transformers import DataCollatorWithFlattening

FILL = {"input_ids": 0, "attention_mask": 0, "labels": -100}


def padded(features: list[dict[str, Any]], *, left: bool) -> dict[str, Any]:
    """Rows padded to the longest of them on one side."""
    width = max(len(feature["input_ids"]) for feature in features)
    columns: dict[str, list[Any]] = {name: [] for name in FILL}
    for feature in features:
        missing = width - len(feature["input_ids"])
        full = {**feature, "attention_mask": [1] * len(feature["input_ids"])}
        for name, fill in FILL.items():
            sides = (missing, 0) if left else (0, missing)
            columns[name].append(pad(torch.tensor(full[name]), sides, value=fill))
    return {name: torch.stack(values) for name, values in columns.items()}


def right(features: list[dict[str, Any]]) -> dict[str, torch.Tensor]:
    """Padding behind the rows."""
    return padded(features, left=False)


def left(features: list[dict[str, Any]]) -> dict[str, torch.Tensor]:
    """Padding in front of the rows."""
    return padded(features, left=True)


def packed(features: list[dict[str, Any]]) -> dict[str, Any]:
    """One flat row, whose positions restart."""
    kept = [{key: feature[key] for key in ("input_ids", "labels")} for feature in features]
    return dict(DataCollatorWithFlattening(return_tensors="pt")(kept))


COLLATORS = {"right": right, "left": left, "packed": packed}

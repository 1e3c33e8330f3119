"""The rows of a step: tokens, which of them are predicted, and what each row and token counts."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from fuzz.gradients.adapters import INVOCATION
from fuzz.gradients.case import Case
from fuzz.gradients.models import VOCABULARY

IGNORED = -100


@dataclass(frozen=True)
class Row:
    """ids, labels, token_weights: [T]. weight, group, reference: what the data says of the row."""

    ids: Tensor
    labels: Tensor
    token_weights: Tensor
    weight: float
    group: int
    reference: float


def make_rows(case: Case) -> list[Row]:
    """As many as the case has, of its seed alone."""
    generator = torch.Generator().manual_seed(case.seed)
    rows = [_row(generator, case.longest) for _ in range(case.rows)]
    for row in rows if case.adapter == "alora" else ():
        row.ids[1] = INVOCATION  # what wakes that adapter
        row.labels[1] = INVOCATION if row.labels[1] != IGNORED else IGNORED
    if case.empty and len(rows) > 3:
        rows[1].labels.fill_(IGNORED)
    return rows


def _row(generator: torch.Generator, longest: int) -> Row:
    length = int(torch.randint(3, longest + 1, (1,), generator=generator))
    ids = torch.randint(3, VOCABULARY, (length,), generator=generator)
    if torch.rand(1, generator=generator) < 0.3:
        ids[length // 2 :] = ids[-1]  # some rows are easier than others
    labels = ids.clone()
    kind = float(torch.rand(1, generator=generator))
    if kind < 0.4:
        labels[: 1 + length // 3] = IGNORED  # a prompt
    elif kind < 0.7:
        labels[torch.rand(length, generator=generator) < 0.4] = IGNORED  # turns
        labels[-1] = ids[-1]
    weights = torch.randint(0, 4, (length,), generator=generator).float() / 2
    weights[-1] = 1.0  # never all 0, unless nothing is predicted
    draw = torch.rand(2, generator=generator)
    return Row(
        ids, labels, weights, 0.1 + float(draw[0]), int(torch.randint(0, 3, (1,), generator=generator)),
        1 + 3 * float(draw[1]),
    )  # fmt: skip


def features(case: Case, rows: list[Row]) -> list[dict[str, Any]]:
    """As a dataset gives them, with the columns that reach the rule."""
    given = []
    for number, row in enumerate(rows):
        feature: dict[str, Any] = {
            "input_ids": row.ids.tolist(), "labels": row.labels.tolist(), "sample_id": number,
            "sample_weight": row.weight, "group": row.group, "reference_loss": row.reference,
        }  # fmt: skip
        if case.token_weights:
            feature["token_weights"] = row.token_weights.tolist()
        given.append(feature)
    return given

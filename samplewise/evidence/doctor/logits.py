"""The same step from logits, by autograd, sharing no code with the kernels, the rules or the engine.

Shapes: n samples, B rows, T positions, V vocabulary.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from samplewise.evidence.doctor.documents import Documents, padded

Weigh = Callable[[Tensor, Tensor], Tensor]
"""(losses [n], weights of the data [n], both fp64) -> [n] coefficients that sum to 1."""


def tilted(loss: Tensor, weight: Tensor) -> Tensor:
    """chain(column_weights(), ir_dro(r=1.0)) in closed form: weight·exp(loss) over its sum."""
    return torch.softmax(loss + weight.log(), 0)


def hardest_half_tilted(loss: Tensor, weight: Tensor) -> Tensor:
    """chain(top_k(0.5), ir_dro(r=1.0)) in closed form."""
    kept = torch.zeros_like(loss, dtype=torch.bool)
    kept[loss.topk(len(loss) // 2).indices] = True
    return torch.softmax(loss.masked_fill(~kept, -torch.inf), 0)


def row_losses(model: Any, batch: dict[str, Tensor]) -> Tensor:
    """[B] the mean loss of each row from the model's logits, widened to fp32 as transformers does; nats/token."""
    inputs = {key: value for key, value in batch.items() if key in ("input_ids", "attention_mask")}
    logits = model(**inputs, use_cache=False).logits
    target = batch["labels"][:, 1:]
    token = F.cross_entropy(logits[:, :-1].float().transpose(1, 2), target, reduction="none")
    return token.sum(1) / (target != -100).sum(1)


def step(
    model: nn.Module, documents: Documents, weigh: Weigh, parts: Sequence[Sequence[int]] | None = None
) -> tuple[Tensor, Tensor]:
    """(losses [n], coefficients [n], both fp64 on the CPU) of all documents; their weighted gradient is in `.grad`.

    parts: which documents go through the model together, each alone by default. All losses come first, then each part
    once more with its gradient: so nothing is kept of one part while another runs.
    """
    parts = [[i] for i in range(len(documents))] if parts is None else parts
    batches = [padded(documents, part) for part in parts]
    order = [i for part in parts for i in part]
    loss = torch.empty(len(documents), dtype=torch.float64)
    with torch.no_grad():
        loss[order] = torch.cat([row_losses(model, batch) for batch in batches]).cpu().double()
    coefficient = weigh(loss, documents.weight.double())
    model.zero_grad()
    for part, batch in zip(parts, batches, strict=True):
        share = coefficient[list(part)]
        if bool(share.any()):
            found = row_losses(model, batch)
            (share.to(found) * found).sum().backward()
    return loss, coefficient

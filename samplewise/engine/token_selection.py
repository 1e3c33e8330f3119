"""Which tokens of a step count: a token rule applied to scored micro-batches, over samples or over the whole step."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from samplewise.core.columns import BEFORE, ID, MASS, SEGMENTS, TOKEN_REFERENCE, TOKEN_WEIGHTS, Batch
from samplewise.core.distributed import gather_fields, rank
from samplewise.losses.token_losses import IGNORED, select_tokens, token_counts
from samplewise.rules.tokens import TokenRule

Select = Callable[[Tensor, "Tensor | None", Tensor], Tensor]


def choose_tokens(
    rule: TokenRule, batches: list[Batch], losses: list[Tensor], device: torch.device, *, per_token: bool
) -> list[Batch]:
    """The micro-batches with the token weights that `rule` gives; tokens of weight 0 are predicted no longer.

    losses: [B, T] token losses of each, aligned with labels; the reference model's stand in the micro-batches.
    per_token: whether a sample counts by its tokens: then by what is left of them.
    Cost with scope "step": one gather of two numbers for every token of the step.
    """
    selects = [rule] * len(batches) if rule.scope == "sample" else _over_step(rule, batches, losses, device)
    pairs = zip(selects, batches, losses, strict=True)
    return [_weighted(batch, _selected(select, batch, loss), per_token) for select, batch, loss in pairs]


def _selected(select: Select, batch: Batch, loss: Tensor) -> Tensor:
    return select_tokens(
        select, loss, batch["labels"], batch.get(TOKEN_REFERENCE), segments=batch.get(SEGMENTS),
        token_weights=batch.get(TOKEN_WEIGHTS),
    )  # fmt: skip


def _weighted(batch: Batch, weights: Tensor, per_token: bool) -> Batch:
    chosen = {key: value for key, value in batch.items() if key != TOKEN_REFERENCE}
    labels = batch["labels"].masked_fill(weights == 0, IGNORED)
    chosen |= {"labels": labels, TOKEN_WEIGHTS: weights.to(torch.float32)}
    if per_token:
        left = token_counts(labels, segments=batch.get(SEGMENTS)).double().cpu()
        chosen[MASS] = batch[MASS] * left / batch[BEFORE].clamp(min=1)
    return chosen


def _over_step(rule: TokenRule, batches: list[Batch], losses: list[Tensor], device: torch.device) -> list[Select]:
    """For each micro-batch its part of what the rule gives all tokens of the step, of every rank."""
    found: list[tuple[Tensor, Tensor | None, Tensor]] = []

    def collect(loss: Tensor, reference: Tensor | None, sample: Tensor) -> Tensor:
        found.append((loss, reference, sample))
        return torch.ones_like(loss)

    for batch, loss in zip(batches, losses, strict=True):
        _selected(collect, batch, loss)
    first = rank() << 32  # samples are told apart, no more
    starts = [first + sum(len(batch[ID]) for batch in batches[:k]) for k in range(len(batches))]
    fields = {
        "loss": torch.cat([loss for loss, *_ in found]).double(),
        "sample": torch.cat([sample + start for (*_, sample), start in zip(found, starts, strict=True)]),
    }
    references = [reference for _, reference, _ in found if reference is not None]
    if references:
        fields["reference"] = torch.cat(references).double()
    step, spans = gather_fields(fields, device)
    weights = rule(step["loss"], step.get("reference"), step["sample"])[spans[rank()]]
    parts = weights.split([len(loss) for loss, *_ in found])
    return [lambda loss, reference, sample, own=own: own.to(loss.device) for own in parts]

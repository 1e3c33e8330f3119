"""Which tokens of a step count: a token rule applied to scored micro-batches, over samples or over the whole step."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import torch
from torch import Tensor

from samplewise.core.distributed import gather_fields, rank
from samplewise.core.host import fetched
from samplewise.core.micro_batch import MicroBatch
from samplewise.core.token_rule import TokenRule
from samplewise.engine.plan import Per
from samplewise.losses.token_losses import IGNORED, select_tokens, token_counts

Select = Callable[[Tensor, "Tensor | None", Tensor], Tensor]


def select_step_tokens(
    rule: TokenRule, batches: list[MicroBatch], losses: list[Tensor], device: torch.device, *, per: Per
) -> list[MicroBatch]:
    """The micro-batches with the token weights that `rule` gives; tokens of weight 0 are predicted no longer.

    losses: [B, T] token losses of each, aligned with labels; the reference model's stand in the micro-batches.
    per: "token": a sample counts by what is left of its tokens.
    Cost with scope "step": one gather of two numbers for every token of the step.
    """
    selects = [rule] * len(batches) if rule.scope == "sample" else _over_step(rule, batches, losses, device)
    found = [{"weights": _selected(*each)} for each in zip(selects, batches, losses, strict=True)]
    pairs = zip(batches, fetched(found), strict=True)  # on the host, where rows are cut: one wait
    return [_weighted(micro, own["weights"], per) for micro, own in pairs]


def _selected(select: Select, micro: MicroBatch, loss: Tensor) -> Tensor:
    return select_tokens(
        select, loss, micro.targets, micro.token_reference, segments=micro.segments, token_weights=micro.token_weights
    )


def _weighted(micro: MicroBatch, weights: Tensor, per: Per) -> MicroBatch:
    labels = micro.targets.masked_fill(weights == 0, IGNORED)
    selected = replace(micro, labels=labels, token_weights=weights.to(torch.float32), token_reference=None)
    if per == "sample":
        return selected
    assert micro.base_weight is not None, "prepared before any pass"
    assert micro.tokens_before is not None, "prepared before any pass"
    left = token_counts(labels, segments=micro.segments).double()
    return replace(selected, base_weight=micro.base_weight * left / micro.tokens_before.clamp(min=1))


def _over_step(rule: TokenRule, batches: list[MicroBatch], losses: list[Tensor], device: torch.device) -> list[Select]:
    """For each micro-batch its part of what the rule gives all tokens of the step, of every rank."""
    found: list[tuple[Tensor, Tensor | None, Tensor]] = []

    def collect(loss: Tensor, reference: Tensor | None, sample: Tensor) -> Tensor:
        found.append((loss, reference, sample))
        return torch.ones_like(loss)

    for micro, loss in zip(batches, losses, strict=True):
        _selected(collect, micro, loss)
    first = rank() << 32  # samples are told apart, no more
    starts = [first + sum(len(micro) for micro in batches[:k]) for k in range(len(batches))]
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

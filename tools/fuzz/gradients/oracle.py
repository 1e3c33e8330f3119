"""The gradient of a step by plain means: row by row through the model's logits, in fp64, without the library."""

from __future__ import annotations

import copy
import math
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from fuzz.gradients.case import Case
from fuzz.gradients.collators import right
from fuzz.gradients.data import IGNORED, Row
from fuzz.gradients.formulas import RULES, Seen
from fuzz.gradients.models import ROUTER_COEFFICIENT, in_double


@dataclass(frozen=True)
class Answer:
    """gradients: by name, zeros left out. loss: the unweighted mean. gap: the least distance of two sample losses."""

    gradients: dict[str, Tensor]
    loss: float
    gap: float


@dataclass(frozen=True)
class _Sample:
    loss: Tensor  # [] with its graph, as the rule sees it
    trained: Tensor  # [] with its graph, its tokens weighed by their own probability
    mass: float
    row: Row
    micro_batch: int


def answer(
    case: Case, model: nn.Module, rows: list[Row], batches: list[list[int]], *,
    step: int, host: Host, reference: nn.Module | None = None, exact: bool = True,
) -> Answer:  # fmt: skip
    """What the step's gradient must be.

    batches: which rows each micro-batch held. step: 0 or 1, on the same rows with the same parameters.
    exact: in fp64; otherwise the model computes in the case's own precision, to see what rounding does to it.
    """
    made = in_double if exact else (lambda model: model)
    own = made(copy.deepcopy(model))
    other = None if reference is None else made(copy.deepcopy(reference)).eval()
    with torch.autocast("cpu", torch.bfloat16, enabled=not exact and case.precision == "autocast"):
        samples = [
            sample
            for number, batch in enumerate(batches)
            for index in batch
            for sample in _samples(case, own, rows[index], number, other)
        ]
    loss, trained = (torch.stack([getattr(each, name) for each in samples]) for name in ("loss", "trained"))
    mass = _mass(case, samples, host)
    weights = RULES[case.rule](_seen(samples, loss, step))
    objective = (weights * mass * trained).sum() / (weights * mass).sum()
    if "ema" in case.rule:  # divided by the number of samples, of mean 1
        objective = (weights / weights.mean() * mass * trained).sum() / mass.sum()
    objective = objective * host.scale
    if case.router:
        objective = objective + _router_term(own, rows, batches)
    objective.backward()
    gradients = {n: p.grad.double() for n, p in own.named_parameters() if p.grad is not None and p.requires_grad}
    unweighted = float((mass * loss.detach()).sum() / mass.sum()) * host.scale
    apart = loss.detach().sort().values.diff()
    return Answer(gradients, unweighted, float(apart.min()) if len(apart) else math.inf)


@dataclass(frozen=True)
class Host:
    """What the host trainer does of itself.

    averages: it averages the means of micro-batches. scale: predicted tokens over those it divides by.
    """

    averages: bool = False
    scale: float = 1.0


def _samples(case: Case, model: nn.Module, row: Row, number: int, reference: nn.Module | None) -> list[_Sample]:
    if not bool((row.labels[1:] != IGNORED).any()):
        return []
    token = _token_losses(model, row)
    labels = row.labels
    counts = torch.ones(len(labels), dtype=torch.float64)
    if case.token_weights:
        labels, counts = labels.masked_fill(row.token_weights == 0, IGNORED), row.token_weights.double()
    counts = counts * (labels != IGNORED)
    counts[0] = 0  # nothing stands before it
    if reference is not None:
        counts = counts * _chosen(token.detach() - _token_losses(reference, row).detach(), counts, case.keep_tokens)
    own = torch.exp(-token.detach() / case.talr) if case.talr else torch.ones_like(token)
    out = []
    for span in _runs(labels) if case.turns else [slice(0, len(row.ids))]:
        mass = float(counts[span].sum())
        if mass > 0:
            loss, trained = ((counts * each * token)[span].sum() / mass for each in (1, own))
            out.append(_Sample(loss, trained, mass, row, number))
    return out


def _token_losses(model: nn.Module, row: Row) -> Tensor:
    """[T] −log p of each token after the first, 0 there."""
    logits: Any = model(input_ids=row.ids[None]).logits[0]
    logits = logits[-len(row.ids) :]  # virtual tokens stand in front
    losses = -logits[:-1].double().log_softmax(-1).gather(1, row.ids[1:, None]).squeeze(1)
    return torch.cat([losses.new_zeros(1), losses])


def _chosen(excess: Tensor, counts: Tensor, keep: float) -> Tensor:
    """[T] 1 for the highest ⌊keep·n⌋ of the counted, at least one."""
    counted = counts > 0
    least = max(1, math.floor(keep * int(counted.sum()) + 1e-9))
    limit = excess[counted].sort(descending=True).values[least - 1]
    return (counted & (excess >= limit)).double()


def _runs(labels: Tensor) -> list[slice]:
    """Every unbroken run of predicted labels."""
    found, start = [], None
    for place, label in enumerate([*labels.tolist(), IGNORED]):
        if label != IGNORED and start is None:
            start = place
        elif label == IGNORED and start is not None:
            found.append(slice(start, place))
            start = None
    return found


def _seen(samples: list[_Sample], loss: Tensor, step: int) -> Seen:
    def column(name: str) -> Tensor:
        return torch.tensor([float(getattr(sample.row, name)) for sample in samples], dtype=torch.float64)

    tokens = torch.tensor([sample.mass for sample in samples], dtype=torch.float64)
    return Seen(loss.detach(), tokens, column("weight"), column("reference"), column("group"), step)


def _mass(case: Case, samples: list[_Sample], host: Host) -> Tensor:
    """[N] what a sample counts before it is weighed."""
    mass = torch.tensor([sample.mass if case.per == "token" else 1.0 for sample in samples], dtype=torch.float64)
    if case.per == "token" and host.averages:
        number = torch.tensor([sample.micro_batch for sample in samples])
        mass = torch.stack([m / mass[number == n].sum() for m, n in zip(mass, number, strict=True)])
    return mass


def _router_term(model: nn.Module, rows: list[Row], batches: list[list[int]]) -> Tensor:
    """The model's own load-balancing term over its one micro-batch, with its coefficient."""
    given = [{"input_ids": rows[i].ids.tolist(), "labels": rows[i].labels.tolist()} for i in batches[0]]
    batch = right(given)
    out: Any = model(input_ids=batch["input_ids"], attention_mask=batch["attention_mask"], output_router_logits=True)
    return ROUTER_COEFFICIENT * out.aux_loss

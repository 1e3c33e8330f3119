"""Losses, weights and gradients of a step against the logits path, in every form that a step can take.

What is right is the fp32 step from logits, each document alone. In fp32 ours may be off by 1e-5, in 16 bits by 1.5
times what plain training, from logits in the same dtype and batch, is off itself.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from samplewise.core.errors import SamplewiseError
from samplewise.engine.observers import StatelessObserver
from samplewise.engine.result import StepResult
from samplewise.evidence.doctor import logits
from samplewise.evidence.doctor.checks import Check, judge
from samplewise.evidence.doctor.documents import Documents, micro_batches
from samplewise.losses.head import find_head
from samplewise.losses.without_logits import WithoutLogits
from samplewise.trainers import WeightedStep

COUNT = 12
"""Documents of a step."""
LIMIT, TIMES = 1e-5, 1.5
TILT, HARDEST = "chain(column_weights(), ir_dro(r=1.0))", "chain(top_k(0.5), ir_dro(r=1.0))"
WEIGH = {TILT: logits.tilted, HARDEST: logits.hardest_half_tilted}
WHOLE, SPLIT = [list(range(COUNT))], [list(range(5)), list(range(5, COUNT))]
SMALL_CHUNK = 24
"""Rows of logits in a chunk where chunks are to be small: below most documents, and no divisor of anything."""


@dataclass(frozen=True)
class Case:
    """A form of the same step."""

    name: str
    form: str
    parts: Sequence[Sequence[int]]
    rule: str = TILT
    small_chunks: bool = False


CASES = (
    Case("padded, one micro-batch", "padded", WHOLE),
    Case("padded, two, small chunks", "padded", SPLIT, small_chunks=True),
    Case("packed, one micro-batch", "packed", WHOLE),
    Case("packed, two micro-batches", "packed", SPLIT),
    Case("two passes, half kept", "padded", SPLIT, rule=HARDEST),
)


@dataclass(frozen=True)
class Outcome:
    """loss, share (coefficients that sum to 1): [n] fp64. gradient: by parameter."""

    loss: Tensor
    share: Tensor
    gradient: dict[str, Tensor]


class Seen(StatelessObserver):
    """Keeps the last step's result."""

    result: StepResult

    def on_step(self, result: StepResult) -> None:
        """Keeps it for the comparison."""
        self.result = result


def exact(model: nn.Module, documents: Documents, rule: str) -> Outcome:
    """The fp32 step from logits, each document alone."""
    loss, share = logits.step(model, documents, WEIGH[rule])
    return Outcome(loss, share, _taken(model))


def ours(model: Any, documents: Documents, case: Case, around: Callable[[], AbstractContextManager[Any]]) -> Outcome:
    """The step as `WeightedStep` takes it."""
    seen = Seen()
    step = WeightedStep(model, case.rule, observers=[seen])
    forward = step.engine.attached.forward if step.engine.attached is not None else None
    if case.small_chunks and isinstance(forward, WithoutLogits):
        weight = find_head(model).weight
        forward.chunk_bytes = SMALL_CHUNK * len(weight) * max(4, weight.dtype.itemsize)
    model.zero_grad()
    try:
        with around():
            for micro in step.plan(micro_batches(documents, case.form, case.parts)):
                step.backward(micro)
        step.finish()
    finally:
        step.detach()
    order = seen.result.samples.id.argsort()
    weights = seen.result.weights[order].cpu().double()
    return Outcome(seen.result.samples.loss[order].cpu().double(), weights / weights.sum(), _taken(model))


def distances(model: nn.Module, found: Outcome, right: Outcome) -> dict[str, float]:
    """Root mean square of what losses and weights are off, relative; of the head's and the other gradients, relative.

    A gradient's distance is the norm of the difference over that of the right one, over all parameters of the group:
    some of a model's parameters have no gradient but rounding.
    """
    head = find_head(model).weight
    names = {name for name, parameter in model.named_parameters() if parameter is head}
    n = math.sqrt(len(right.loss))
    return {
        "losses": float(((found.loss - right.loss) / right.loss.abs().clamp(min=1)).norm()) / n,
        "weights": float((found.share - right.share).norm() / right.share.norm()),
        "gradient of the head": _distance(found.gradient, right.gradient, names),
        "other gradients": _distance(found.gradient, right.gradient, right.gradient.keys() - names),
    }


def compare(
    model: nn.Module, documents: Documents, rule: str, right: Outcome, dtype: str,
    around: Callable[[], AbstractContextManager[Any]] = nullcontext,
) -> Iterator[Check]:  # fmt: skip
    """A check for each case of the rule.

    right: its fp32 step. dtype: as it is called in the checks' names. around: what forwards run in, such as autocast.
    """
    with around():
        loss, share = logits.step(model, documents, WEIGH[rule], WHOLE)
    plain = distances(model, Outcome(loss, share, _taken(model)), right)
    for case in CASES:
        if case.rule != rule:
            continue
        name = f"{dtype}: {case.name}"
        try:
            off = distances(model, ours(model, documents, case, around), right)
        except SamplewiseError as error:  # a model that cannot be packed trains on padded rows: PASS needs no packing
            yield Check(name, "not checked", str(error), judged=case.form != "packed")
            continue
        yield _judged(name, off, plain)


def _judged(name: str, off: dict[str, float], plain: dict[str, float]) -> Check:
    """The worst of the distances, each against its own limit."""
    limits = {key: max(LIMIT, TIMES * plain[key]) for key in off}
    worst = max(off, key=lambda key: off[key] / limits[key] if off[key] == off[key] else math.inf)
    text = f"{worst} off by {off[worst]:.1e}, allowed {limits[worst]:.1e} (plain {plain[worst]:.1e})"
    return judge(name, off[worst], limits[worst], text, worst=worst, ours=off, plain=plain)


def _taken(model: nn.Module) -> dict[str, Tensor]:
    """The gradients, and none left in the model."""
    found = {name: p.grad.detach() for name, p in model.named_parameters() if p.grad is not None}
    model.zero_grad(set_to_none=True)
    return found


def _distance(found: dict[str, Tensor], right: dict[str, Tensor], names: set[str]) -> float:
    """0 where none of them is trained; one that is missing counts as a gradient of 0."""
    off = total = 0.0
    for name in sorted(names & right.keys()):
        theirs = right[name].float()
        mine = found[name].float() if name in found else torch.zeros_like(theirs)
        off += float((mine - theirs).norm()) ** 2
        total += float(theirs.norm()) ** 2
    return math.sqrt(off / total) if total else 0.0

"""Weights of groups of samples (domains), learned from their losses over the steps."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import TYPE_CHECKING

from samplewise.core.host import beside, host
from samplewise.core.rule import Rule, State
from samplewise.core.samples import Samples
from samplewise.rules.base import check_number, check_share, make_rule
from samplewise.rules.schedules import Number, schedulable

if TYPE_CHECKING:
    import numpy as np
    import torch
    from torch import Tensor
else:
    from samplewise.core.lazy import numpy as np
    from samplewise.core.lazy import torch

MIN_GROUP_WEIGHT = 1e-12
"""The least weight of a group: from an exact 0 it could not come back."""

Weights = dict[int, float]
"""The weight of every group seen so far, by its number; they sum to 1."""


@schedulable
def group_dro(step_size: Number = 0.01) -> Rule:
    """Groups of a high loss weigh more, step by step: an adversary's exponentiated-gradient ascent over the groups.

    step_size: η, above 0: after each step q_g ← q_g · exp(η · mean loss of g), scaled so that the groups of the step
        keep their sum; those absent from it stay as they were.
    A sample weighs q_g / n_g, n_g samples of its group being in the step, so that a group weighs q_g however often it
    comes; groups all weigh the same at first, one that appears later as much as the mean of the others. Where the
    weights on entry are not equal they part q_g among the group's samples, and make its mean loss.
    Reads the field `group`. No loss is needed before the step: one pass. Not pointwise.
    `samplewise.rules.group_weights(state)` are the q.
    Source: group DRO (Sagawa et al., arXiv 1911.08731), algorithm 1; `by("excess", group_dro())` is on excess loss.
    Errors: SamplewiseError if step_size is not a finite number above 0.

    >>> import samplewise as sw
    >>> sw.weights(sw.group_dro(step_size=0.1), [1.0, 2.0, 3.0, 4.0], group=[0, 0, 0, 1]).tolist()
    [0.6666666666666666, 0.6666666666666666, 0.6666666666666666, 2.0]
    """
    eta = _positive("step_size", step_size)

    def moved(q: Weights, losses: Weights, state: State) -> State:
        return _keyed("q", _ascended(q, losses, eta))

    def measure(samples: Samples) -> tuple[Tensor, Tensor]:
        return samples.loss, torch.ones_like(samples.loss)

    return _grouped(f"group_dro(step_size={eta})", measure, moved, dict)


@schedulable
def doremi(step_size: Number = 1.0, smoothing: Number = 1e-3) -> Rule:
    """Weights of domains as DoReMi's proxy run learns them: those with much left to learn weigh more.

    step_size: η, above 0. smoothing: c, in [0, 1): after each step α_g ← α_g · exp(η · λ_g), scaled so that the
        domains of the step keep their sum, then mixed with c parts of equal weights; those absent stay as they were.
        λ_g is the mean over the tokens of g of the sample losses, those below 0 counting as 0.
    A sample weighs α_g / n_g, as in `group_dro`. What a main run takes is the mean of α over the steps:
    `samplewise.rules.mean_group_weights(state)`.
    Reads the field `group`. No loss is needed before the step: one pass. Not pointwise.
    Source: DoReMi (Xie et al., arXiv 2305.10429), algorithm 1, as `by("excess", doremi())`: the excess is clipped
    at 0 for each sample, where the paper clips it for each token.
    Errors: SamplewiseError if a number is out of range.

    >>> import samplewise as sw
    >>> rule = sw.by("excess", sw.doremi())
    >>> sw.weights(rule, [1.0, 2.0, 3.0, 4.0], reference=[1.0, 1.0, 1.0, 1.0], group=[0, 0, 0, 1]).tolist()
    [0.6666666666666666, 0.6666666666666666, 0.6666666666666666, 2.0]
    """
    eta, c = _positive("step_size", step_size), check_share("smoothing", smoothing, zero=True)

    def moved(q: Weights, losses: Weights, state: State) -> State:
        new = _ascended(q, losses, eta)
        even = math.fsum(new[g] for g in losses) / len(losses)
        new |= {g: (1 - c) * new[g] + c * even for g in losses}
        total = {g: value + _found("sum", state).get(g, 0.0) for g, value in new.items()}
        return {"steps": int(state["steps"]) + 1, **_keyed("q", new), **_keyed("sum", total)}

    def measure(samples: Samples) -> tuple[Tensor, Tensor]:
        return samples.loss.clamp(min=0), samples.tokens.to(samples.loss)

    return _grouped(f"doremi(step_size={eta}, smoothing={c})", measure, moved, lambda: {"steps": 0})


def group_weights(state: State) -> Weights:
    """The weights of all groups that the rule of groups in `state` has seen; they sum to 1.

    state: as `Plan.state`, of the rule itself or of one that holds it. Empty where there is none.
    """
    return _found("q", state)


def mean_group_weights(state: State) -> Weights:
    """Their mean over the steps so far, which is what DoReMi's main run takes; empty but for `doremi`."""
    steps = next((int(value) for key, value in state.items() if key.split(".")[-1] == "steps"), 0)
    return {g: total / steps for g, total in _found("sum", state).items()}


def _grouped(
    expression: str,
    measure: Callable[[Samples], tuple[Tensor, Tensor]],
    moved: Callable[[Weights, Weights, State], State],
    init: Callable[[], State],
) -> Rule:
    """A rule whose samples share the weight of their group.

    measure: samples -> ([N] losses, [N] what each counts in its group's mean).
    moved: (weights of the groups known, mean losses of those in the step, state) -> state.
    """

    def body(weights: Tensor, samples: Samples, state: State) -> Tensor:
        names, place = _groups(samples)
        q = _known(state, names)
        share = torch.tensor([q[g] for g in names], dtype=torch.float64, device=weights.device)
        return (weights.double() * (share / _summed(weights, place, len(names)))[place]).to(weights)

    def update(samples: Samples, weights: Tensor, state: State) -> State:
        names, place = _groups(samples)
        loss, counted = measure(samples)
        total = _summed(weights * counted * loss, place, len(names)) / _summed(weights * counted, place, len(names))
        return moved(_known(state, names), dict(zip(names, total.tolist(), strict=True)), state)

    return make_rule(expression, body, init=init, update=update, needs_loss=False, required_fields=frozenset({"group"}))


def _ascended(q: Weights, losses: Weights, step_size: float) -> Weights:
    """q · exp(step_size · loss) among the groups that have one, of the same sum as before; the others as they were."""
    powers = {g: math.log(q[g]) + step_size * loss for g, loss in losses.items()}
    top = max(powers.values())
    grown = {g: math.exp(power - top) for g, power in powers.items()}
    scale = math.fsum(q[g] for g in losses) / math.fsum(grown.values())
    return q | {g: max(value * scale, MIN_GROUP_WEIGHT) for g, value in grown.items()}


def _known(state: State, names: list[int]) -> Weights:
    """The weights of all groups, those in the step that are new weighing as much as the mean of the others."""
    old = _found("q", state)
    new = [g for g in names if g not in old]
    count = len(old) + len(new)
    return {g: value * len(old) / count for g, value in old.items()} | dict.fromkeys(new, 1 / count)


def _found(what: str, state: State) -> Weights:
    """The numbers that stand under "what.group" in the state, whatever rules hold the one they belong to."""
    parts = ((key.split("."), value) for key, value in state.items())
    return {int(key[-1]): float(value) for key, value in parts if len(key) > 1 and key[-2] == what}


def _keyed(what: str, values: Weights) -> State:
    return {f"{what}.{g}": value for g, value in sorted(values.items())}


def _groups(samples: Samples) -> tuple[list[int], Tensor]:
    """(the groups in the step, [N] which of them each sample is in)."""
    assert samples.group is not None, "asked for by `required_fields`"
    names, place = np.unique(host(samples.group), return_inverse=True)
    return names.tolist(), beside(place, samples.group)


def _summed(values: Tensor, place: Tensor, count: int) -> Tensor:
    """[count] fp64 sums of `values` [N] over the samples of each group."""
    return torch.zeros(count, dtype=torch.float64, device=values.device).index_add_(0, place, values.double())


def _positive(name: str, value: object) -> float:
    return check_number(name, value, 0, "a finite number above 0", "0 would leave all groups alike.", above=True)

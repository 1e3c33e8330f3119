"""Weights by the loss that a sample had under the starting model."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import TYPE_CHECKING, Literal

from samplewise.core.errors import SamplewiseError
from samplewise.core.rule import Rule, State
from samplewise.core.samples import Samples
from samplewise.rules.base import check_number, make_rule
from samplewise.rules.schedules import Number, schedulable

if TYPE_CHECKING:
    import numpy as np
    import torch
    from torch import Tensor
else:
    from samplewise.core.lazy import numpy as np
    from samplewise.core.lazy import torch

MEDIAN = "median"


@schedulable
def flow(tau: Number | Literal["median"] = MEDIAN) -> Rule:
    """Samples that the starting model finds easy weigh more: w ∝ exp(−L₀ / tau), L₀ its loss of the sample.

    tau: above 0, in nats, or "median", the median of L₀ over the data.
    L₀ is the column `stored_loss` (`samplewise score` with the starting model writes one). A sample without one has
    the loss of its first visit, which is remembered: of a model that has begun to learn, so score first where it
    matters. L₀ stays as it is, whatever the model learns.
    The median is that of the column where the trainer knows the data, from the first step on; elsewhere that of the
    samples seen in past steps, in the first step its own.
    Weights are divided by their sum over a step, as all weights are. Pointwise, once tau is known. The state holds 16
    bytes for each sample that the median or the first visits need.
    Source: FLOW (Sanyal et al., arXiv 2502.02797), against forgetting in fine-tuning.
    Errors: SamplewiseError if tau is not above 0; in training, if the stored losses of all the data are equal.

    >>> import samplewise as sw
    >>> [round(w, 3) for w in sw.weights(sw.flow(), [1.0, 2.0, 4.0]).tolist()]  # e^−½, e^−1, e^−2
    [1.64, 0.994, 0.366]
    """
    if tau == MEDIAN:
        return _flow(None)
    return _flow(
        check_number("tau", tau, 0, 'a number above 0, in nats, or "median"', 'For example "median".', above=True)
    )


def _flow(given: float | None) -> Rule:
    """given: tau, None for the median."""

    def tau_of(state: State, first: Tensor) -> float:
        """`first`: [N] first losses of this step, for its median where none is known."""
        tau = float(state["tau"]) if given is None else given
        return _median(first) if math.isnan(tau) else tau

    def body(weights: Tensor, samples: Samples, state: State) -> Tensor:
        first = first_losses(samples, state)
        tau = tau_of(state, first)
        if tau <= 0:  # of losses of 0: all alike
            return weights
        return weights * torch.exp((first.min() - first) / tau)

    def update(samples: Samples, weights: Tensor, state: State) -> State:
        known = given is not None or bool(state["of_data"])
        new = _remembered(samples, state, only_missing=known)
        if known or len(new["ids"]) == len(_tensor(state, "ids")):
            return {**state, **new}
        return {**state, **new, "tau": _median(new["losses"])}

    def begin_data(losses: Tensor, state: State) -> State:
        found = losses.double()[losses.isfinite()]
        if given is not None or not len(found):
            return state
        if (error := _constant(found, "stored losses that differ, with a median above 0")) is not None:
            raise error
        return {**state, "tau": _median(found), "of_data": 1}

    def shortfall(weights: Tensor, samples: Samples, state: State) -> SamplewiseError | None:
        known = given is not None or not math.isnan(float(state["tau"]))
        wanted = "at least 2 samples whose stored losses differ, with a median above 0"
        return None if known else _constant(first_losses(samples, state), wanted)

    rule = make_rule(
        'flow(tau="median")' if given is None else f"flow(tau={given})",
        body,
        init=lambda: {"ids": torch.zeros(0, dtype=torch.int64), "losses": torch.zeros(0, dtype=torch.float64),
                      "tau": math.nan, "of_data": 0},
        update=update,
        factor=lambda samples, state: torch.exp(-first_losses(samples, state) / tau_of(state, samples.loss)),
        factor_ready=lambda state: given is not None or float(state["tau"]) > 0,
        welcome_fields=frozenset({"stored_loss"}),
        shortfall=shortfall,
    )  # fmt: skip
    return replace(rule, begin_data=begin_data)


def first_losses(samples: Samples, state: State) -> Tensor:
    """[N] the stored loss of each sample, else that of its first visit, else its loss: this is the first."""
    loss, ids = samples.loss, _tensor(state, "ids").to(samples.id.device)
    if len(ids):
        at = torch.searchsorted(ids, samples.id).clamp(max=len(ids) - 1)
        losses = _tensor(state, "losses").to(loss)
        loss = torch.where(ids[at] == samples.id, losses[at], loss)
    if samples.stored_loss is None:
        return loss
    stored = samples.stored_loss.to(loss)
    return torch.where(stored.isfinite(), stored, loss)


def _remembered(samples: Samples, state: State, *, only_missing: bool) -> dict[str, Tensor]:
    """The state's ids and losses, sorted, with those of samples seen for the first time.

    only_missing: of samples without a stored loss: the others' comes with the data each time.
    """
    ids, losses = _tensor(state, "ids"), _tensor(state, "losses")
    seen = samples
    if only_missing and samples.stored_loss is not None:
        seen = samples.select(~samples.stored_loss.isfinite())
    name, loss = seen.id.cpu().numpy(), first_losses(seen, state).double().cpu().numpy()
    name, first = np.unique(name, return_index=True)
    at = np.searchsorted(ids.numpy(), name)
    new = np.ones(len(name), dtype=bool) if not len(ids) else ids.numpy()[at.clip(max=len(ids) - 1)] != name
    if not new.any():
        return {"ids": ids, "losses": losses}
    return {
        "ids": torch.from_numpy(np.insert(ids.numpy(), at[new], name[new])),
        "losses": torch.from_numpy(np.insert(losses.numpy(), at[new], loss[first][new])),
    }


def _constant(losses: Tensor, wanted: str) -> SamplewiseError | None:
    """The error of losses whose median is no temperature: all equal, or not above 0. wanted: what they should be."""
    low, high = float(losses.min()), float(losses.max())
    if low < high and _median(losses) > 0:
        return None
    got = f"{len(losses)} of {low:.6g}" if low == high else f"{len(losses)} with a median of {_median(losses):.6g}"
    return SamplewiseError(
        "tau", expected=wanted, got=got,
        remedy="Score the data with the starting model, or give tau in nats: of equal losses all samples weigh alike.",
    )  # fmt: skip


def _median(losses: Tensor) -> float:
    """The mean of the middle two of an even number."""
    return float(np.median(losses.double().cpu().numpy()))


def _tensor(state: State, key: str) -> Tensor:
    value = state[key]
    assert isinstance(value, torch.Tensor)
    return value

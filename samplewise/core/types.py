"""The two types everything speaks of, and the one exception.

Shapes: N samples of a step, B rows of a micro-batch, T positions of a row, D hidden size, V vocabulary.
Units: losses in nats per token, counts in tokens.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, fields, replace
from functools import cached_property
from typing import Literal

import numpy as np
import torch
from torch import Tensor

from samplewise.core.errors import SamplewiseError

State = dict[str, "Tensor | float | int"]
"""What a rule remembers between steps: flat, so that it goes into a checkpoint as it is."""

Norm = Literal["sum", "count"]
"""What the weights of a step are divided by."""


@dataclass(frozen=True)
class Samples:
    """The N samples of one optimizer step, over all micro-batches and ranks: 1-D tensors of equal length.

    loss: [N] mean loss over a sample's predicted tokens, nats/token, at least fp32.
    tokens: [N] int64, the number of predicted tokens.
    id: [N] int64, the sample's name: it breaks ties and seeds random choices, so that no split changes them.
    weight: [N] float of at least 0, the data's own weight (column `sample_weight`); None where the data has none.
    reference: [N] the sample's loss under a reference model, nats/token; None without one.
    group: [N] int64, the sample's group (domain); None where the data has none.
    """

    loss: Tensor
    tokens: Tensor
    id: Tensor
    weight: Tensor | None = None
    reference: Tensor | None = None
    group: Tensor | None = None

    def __len__(self) -> int:
        return self.loss.numel()

    @cached_property
    def descending(self) -> Tensor:
        """[N] positions from the highest loss to the lowest; ties go to the smaller id first. Sorted once."""
        if bool((self.id[1:] >= self.id[:-1]).all()):  # as in every plan
            return torch.argsort(self.loss, descending=True, stable=True)
        by_id = torch.argsort(self.id, stable=True)
        return by_id[torch.argsort(self.loss[by_id], descending=True, stable=True)]

    def select(self, index: Tensor) -> Samples:
        """The samples at `index` ([K] positions or [N] bool)."""
        return replace(self, **{name: value[index] for name, value in self.given().items()})

    def given(self) -> dict[str, Tensor]:
        """The fields that are there, by name."""
        return {f.name: getattr(self, f.name) for f in fields(self) if getattr(self, f.name) is not None}


@dataclass(frozen=True)
class Epoch:
    """A pass over the data as it begins.

    number: 0 is the run's first.
    samples: all of the data, each with the loss of its last visit, NaN where there is none.
    done: [N] the share of the run that lies before each sample, in the order of this epoch.
    """

    number: int
    samples: Samples
    done: Tensor


@dataclass(frozen=True)
class ByEpoch:
    """What a rule decides at the beginning of an epoch, for all the data.

    begin: (epoch, state) -> state, with what has been decided.
    keeps: (ids [N], state) -> [N] bool, which of the samples the order of the epoch has.
    until: the share of the run after which every epoch has all samples.
    """

    begin: Callable[[Epoch, State], State]
    keeps: Callable[[Tensor, State], Tensor]
    until: float = 1.0


@dataclass(frozen=True)
class Rule:
    """`weights = rule(samples)`: a value made of pure functions, knowing nothing of ranks, batches or models.

    apply: (weights [N], samples, state) -> weights [N], exact for the whole step, up to a common factor.
    update: (samples, weights, state) -> state, once a step, on all N samples sorted by id.
    init: () -> state.
    factor: (samples of any subset, state) -> [n] unnormalised weights that depend on each sample's own fields
        and on past state only; None where no such form exists. Up to one common factor it equals `apply`.
    ready: state -> whether `factor` may be used now (a tilt needs its shift from a past step first).
    needs_loss: False where weights follow from ids, token counts and the data's fields, so that none need be scored.
    needs: the optional fields of `Samples` that the rule reads, such as "weight".
    norm: what the step divides weights by: their sum, or (for unbiased random dropping) the number of samples, so
        that `apply` and `factor` are then on an absolute scale, of mean 1 in expectation.
    over: the number of steps of a run -> this rule for it, where its numbers are shares of the run; else None.
    epochs: what it decides once an epoch, beside what it does in a step; None for most. A trainer must do it.
    expression: the text that `parse_rule` reads back.
    """

    expression: str
    init: Callable[[], State]
    apply: Callable[[Tensor, Samples, State], Tensor]
    update: Callable[[Samples, Tensor, State], State]
    factor: Callable[[Samples, State], Tensor] | None = None
    ready: Callable[[State], bool] = lambda state: True
    needs_loss: bool = True
    needs: frozenset[str] = frozenset()
    norm: Norm = "sum"
    over: Callable[[int], Rule] | None = None
    epochs: ByEpoch | None = None

    @property
    def pointwise(self) -> bool:
        """Whether a sample's factor can be had from its own fields and past state."""
        return self.factor is not None

    def __repr__(self) -> str:
        return self.expression


def as_samples(
    losses: object, tokens: object = None, ids: object = None, *,
    weight: object = None, reference: object = None, group: object = None,
) -> Samples:  # fmt: skip
    """Samples from plain sequences or tensors; ids default to positions, tokens to 1; the rest may be left out."""
    loss = losses if isinstance(losses, Tensor) else torch.as_tensor(np.asarray(losses, dtype=np.float64))
    loss = (loss if loss.is_floating_point() else loss.to(torch.float64)).detach()
    if loss.dtype in (torch.float16, torch.bfloat16):
        loss = loss.float()
    if loss.dim() != 1:
        raise SamplewiseError(
            "losses", expected="a 1-D tensor or sequence, one loss a sample", got=f"shape {tuple(loss.shape)}",
            remedy="Reduce token losses to sample losses first (samplewise.sample_losses).",
        )  # fmt: skip
    count = torch.ones_like(loss, dtype=torch.int64) if tokens is None else torch.as_tensor(tokens).to(torch.int64)
    name = torch.arange(loss.numel()) if ids is None else torch.as_tensor(ids).to(torch.int64)
    more = {
        "weight": None if weight is None else torch.as_tensor(weight, dtype=torch.float64),
        "reference": None if reference is None else torch.as_tensor(reference, dtype=torch.float64),
        "group": None if group is None else torch.as_tensor(group).to(torch.int64),
    }
    for label, given in (("tokens", count), ("ids", name), *more.items()):
        if given is not None and given.shape != loss.shape:
            raise SamplewiseError(
                label, expected=f"as many as there are losses, {tuple(loss.shape)}", got=tuple(given.shape),
                remedy="Give one value a sample.",
            )  # fmt: skip
    placed = {label: None if given is None else given.to(loss.device) for label, given in more.items()}
    return Samples(loss, count.to(loss.device), name.to(loss.device), **placed)

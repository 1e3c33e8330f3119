"""The samples of one optimizer step.

Shapes: N samples of a step, B rows of a micro-batch, T positions of a row, D hidden size, V vocabulary.
Units: losses in nats per token, counts in tokens.
"""

from __future__ import annotations

from dataclasses import dataclass, fields, replace
from functools import cached_property
from typing import TYPE_CHECKING, TypeAlias

from samplewise.core.errors import SamplewiseError
from samplewise.core.host import host
from samplewise.core.typed import shown

if TYPE_CHECKING:
    import numpy as np
    import torch
    from numpy.typing import ArrayLike
    from torch import Tensor
else:
    from samplewise.core.lazy import numpy as np
    from samplewise.core.lazy import torch

Values: TypeAlias = "Tensor | ArrayLike"
"""[N] numbers: a tensor, an array, a Series of pandas or polars, or a sequence."""


@dataclass(frozen=True)
class Samples:
    """The N samples of one optimizer step, over all micro-batches and ranks: 1-D tensors of equal length.

    loss: [N] mean loss over a sample's predicted tokens, nats/token, at least fp32.
    tokens: [N] int64, the number of predicted tokens.
    id: [N] int64, the sample's name: it breaks ties and seeds random choices, so that no split changes them.
    weight: [N] float, the data's own weight (column `sample_weight`), of at least 0 unless negative ones are allowed;
        None where the data has none.
    reference: [N] the sample's loss under a reference model, nats/token; None without one.
    group: [N] int64, the sample's group (domain); None where the data has none.
    stored_loss: [N] a loss known beforehand (column `stored_loss`), nats/token, NaN where there is none; None where the
        data has none.
    """

    loss: Tensor
    tokens: Tensor
    id: Tensor
    weight: Tensor | None = None
    reference: Tensor | None = None
    group: Tensor | None = None
    stored_loss: Tensor | None = None

    def __len__(self) -> int:
        return self.loss.numel()

    @cached_property
    def descending(self) -> Tensor:
        """[N] positions from the highest loss to the lowest; ties go to the smaller id first. Sorted once."""
        ids = host(self.id)
        if (ids[1:] >= ids[:-1]).all():  # as in every plan
            return torch.argsort(self.loss, descending=True, stable=True)
        by_id = torch.argsort(self.id, stable=True)
        return by_id[torch.argsort(self.loss[by_id], descending=True, stable=True)]

    def select(self, index: Tensor) -> Samples:
        """The samples at `index` ([K] positions or [N] bool)."""
        return replace(self, **{name: value[index] for name, value in self.given().items()})

    def given(self) -> dict[str, Tensor]:
        """The fields that are there, by name."""
        return {f.name: getattr(self, f.name) for f in fields(self) if getattr(self, f.name) is not None}


def as_samples(
    losses: Values, tokens: Values | None = None, ids: Values | None = None, *,
    weight: Values | None = None, reference: Values | None = None, group: Values | None = None,
    stored_loss: Values | None = None,
) -> Samples:  # fmt: skip
    """Samples from tensors, arrays or sequences; ids default to positions, tokens to 1; the rest may be left out."""
    loss = losses if isinstance(losses, torch.Tensor) else torch.tensor(_numbers("losses", losses, np.float64))
    loss = (loss if loss.is_floating_point() else loss.to(torch.float64)).detach()
    if loss.dtype in (torch.float16, torch.bfloat16):
        loss = loss.float()
    if loss.dim() != 1:
        raise SamplewiseError(
            "losses", expected="a 1-D tensor or sequence, one loss a sample", got=f"shape {tuple(loss.shape)}",
            remedy="Reduce token losses to sample losses first (samplewise.sample_losses).",
        )  # fmt: skip
    count = torch.ones_like(loss, dtype=torch.int64) if tokens is None else _column("tokens", tokens, torch.int64)
    name = torch.arange(loss.numel()) if ids is None else _column("ids", ids, torch.int64)
    more = {
        "weight": None if weight is None else _column("weight", weight, torch.float64),
        "reference": None if reference is None else _column("reference", reference, torch.float64),
        "group": None if group is None else _column("group", group, torch.int64),
        "stored_loss": None if stored_loss is None else _column("stored_loss", stored_loss, torch.float64),
    }
    for label, given in (("tokens", count), ("ids", name), *more.items()):
        if given is not None and given.shape != loss.shape:
            raise SamplewiseError(
                label, expected=f"as many as there are losses, {tuple(loss.shape)}", got=tuple(given.shape),
                remedy="Give one value a sample.",
            )  # fmt: skip
    placed = {label: None if given is None else given.to(loss.device) for label, given in more.items()}
    return Samples(loss, count.to(loss.device), name.to(loss.device), **placed)


def _column(name: str, values: Values, dtype: torch.dtype) -> Tensor:
    """A tensor of one field; whole numbers never pass through floats."""
    given = values if isinstance(values, torch.Tensor) else torch.tensor(_numbers(name, values, None))
    return given.to(dtype)


def _numbers(name: str, values: ArrayLike, dtype: type | None) -> np.ndarray:
    try:
        found = np.asarray(values, dtype=dtype)
    except (TypeError, ValueError):
        found = np.asarray("")
    if found.dtype.kind not in "iufb":
        raise SamplewiseError(
            name, expected="numbers, one a sample", got=shown(values), remedy="Give a tensor, an array or a list."
        )
    return found

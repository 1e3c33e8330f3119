"""How a model returns sample losses: chosen once, attached, checked on the first micro-batch, detached."""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from torch import nn

from samplewise.core.errors import SamplewiseError
from samplewise.core.micro_batch import MicroBatch
from samplewise.losses.check_head import check_head
from samplewise.losses.compiled import uncompiled
from samplewise.losses.forward import Forward
from samplewise.losses.from_logits import FromLogits, FromLosses
from samplewise.losses.head import find_head
from samplewise.losses.kernels import Backend, Tally
from samplewise.losses.own_terms import refuse_term_from_logits, refuse_unweighable
from samplewise.losses.packing_check import check_packing
from samplewise.losses.request import attach_objective
from samplewise.losses.without_logits import WithoutLogits

logger = logging.getLogger("samplewise")


@dataclass
class Attached:
    """A model that returns sample losses, the way it does so, and the function that detaches it."""

    model: nn.Module
    forward: Forward
    detach: Callable[[], None]
    checked: bool = False  # the first micro-batch is to be compared with the model's logits

    def check(self, micro: MicroBatch, *, allow_logits: bool) -> None:
        """Compare both paths on a few tokens. Errors: SamplewiseError where they differ and logits are not allowed."""
        if self.checked or not isinstance(self.forward, WithoutLogits):
            return
        self.checked = True
        backend = self.forward.backend
        try:
            check_head(self.model, micro.inputs, backend=backend)
        except SamplewiseError:
            if not allow_logits or backend != "auto":
                raise
            logger.warning("%s trains from logits", type(self.model).__name__)
            self.forward = _from_logits(self.model, self.forward.tally)

    def check_packing(self, model: nn.Module, micro: MicroBatch) -> None:
        """Errors: SamplewiseError where `model`, as it is called, does not keep packed segments apart."""
        tally, self.forward.tally = self.forward.tally, None  # its figures are of what is trained on
        try:
            check_packing(model, micro, self.forward.token_losses)
        finally:
            self.forward.tally = tally


def attach_forward(
    model: nn.Module, *, logits: str = "refuse", losses: Callable[..., Any] | None = None, head: str = "whole",
    backend: Backend = "auto",
) -> Attached:  # fmt: skip
    """Choose how `model` returns sample losses, and attach that to it.

    losses: a loss of one's own. head: "whole" or "sharded", as in `Step.attach`. backend: of the kernels.
    Errors: SamplewiseError where losses cannot be had without logits, and `logits` is "refuse" or a backend is named.
    """
    model = uncompiled(model)
    if losses is not None:
        return Attached(model, FromLosses(losses), lambda: None)
    refuse_unweighable(model)
    if head == "whole":
        try:
            find_head(model)
        except SamplewiseError:
            if logits == "refuse" or backend != "auto":
                raise
            return Attached(model, _from_logits(model), lambda: None)
    return Attached(model, WithoutLogits(backend), attach_objective(model), checked=head != "whole")


def _from_logits(model: nn.Module, tally: Tally | None = None) -> Forward:
    refuse_term_from_logits(model)
    forward = FromLogits()
    forward.tally = tally
    return forward

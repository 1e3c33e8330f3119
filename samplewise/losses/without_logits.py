"""Losses without logits: the kernels, inside the model's own forward."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import torch
from torch import Tensor, nn

from samplewise.core.host import host
from samplewise.core.micro_batch import MicroBatch
from samplewise.losses.forward import ForwardResult
from samplewise.losses.kernels import Backend, Factor, Select, Tally
from samplewise.losses.request import Request, exact
from samplewise.losses.sharded import Sealed
from samplewise.losses.token_losses import token_counts


class WithoutLogits:
    """Through the request that `head.attach_objective` answers inside the model's forward."""

    def __init__(self, backend: Backend = "auto", chunk_bytes: int | None = None) -> None:
        self.backend: Backend = backend
        self.chunk_bytes = chunk_bytes
        self.tally: Tally | None = None

    def losses(self, model: nn.Module, micro: MicroBatch, differentiable: bool = False) -> tuple[Tensor, Tensor]:
        """Scored without gradient unless `differentiable`: neither logits nor activations are kept."""
        if not _predicts(micro):
            return _nothing(model, micro)
        request = self._request(micro, differentiable=differentiable)
        result = _answered(model, micro, request)
        return result.loss, result.tokens

    def token_losses(self, model: nn.Module, micro: MicroBatch) -> Tensor:
        """As the kernel has them: nothing more than the sample losses cost."""
        if not _predicts(micro):
            _nothing(model, micro)
            return torch.zeros(micro.targets.shape, device=micro.device)
        result = _answered(model, micro, replace(self._request(micro), token_losses=True))
        return result.token_loss

    def objective(
        self, model: nn.Module, micro: MicroBatch, factors: Tensor | Factor, tally: bool = True,
        select: Select | None = None,
    ) -> ForwardResult:  # fmt: skip
        """Gradients of hidden states and head are formed in this forward (`samplewise.losses.kernels`).

        Whether factors are numbers is for the caller to see, who reads them once a step.
        """
        if not _predicts(micro):
            loss, tokens = _nothing(model, micro)
            return ForwardResult(loss.sum(), loss.detach(), tokens, torch.zeros_like(loss.detach()), None)
        request = replace(self._request(micro, factors, tally=tally), refuse_nan=False)
        if select is not None:
            request = replace(request, select=select, reference=micro.token_reference)
        result = _answered(model, micro, request)
        router = None if result.router is None else result.router.detach()
        return ForwardResult(
            value=result.value,
            loss=result.loss.detach(),
            tokens=result.tokens,
            factors=result.factors,
            aux=result.aux,
            router=router,
        )

    def _request(
        self, micro: MicroBatch, factors: Tensor | Factor | None = None, differentiable: bool = False,
        tally: bool = True,
    ) -> Request:  # fmt: skip
        return Request(
            micro.targets, factors, segments=micro.segments, token_weights=micro.token_weights, backend=self.backend,
            chunk_bytes=self.chunk_bytes, differentiable=differentiable, tally=self.tally if tally else None,
        )  # fmt: skip


def _answered(model: nn.Module, micro: MicroBatch, request: Request) -> Any:
    """The `Result`: which of its fields are there follows from the request."""
    return exact(model(**micro.inputs, samplewise=Sealed(request)))


def _predicts(micro: MicroBatch) -> bool:
    return bool(host(token_counts(micro.targets, micro.token_weights, micro.segments)).any())


def _nothing(model: nn.Module, micro: MicroBatch) -> tuple[Tensor, Tensor]:
    """Zeros that hang on the graph: every rank makes the same calls, and every parameter gets a gradient."""
    zero = _answered(model, micro, Request(micro.targets, blank=True)).value
    return zero.expand(len(micro)), torch.zeros(len(micro), dtype=torch.int64, device=zero.device)

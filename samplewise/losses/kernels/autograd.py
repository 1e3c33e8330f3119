"""The chunked backend as autograd sees it: the objective, the losses alone, and losses that refuse a gradient."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import torch
from torch import Tensor
from torch.autograd import Function

from samplewise.core.errors import SamplewiseError
from samplewise.losses.kernels.chunked import Wanted, Work, asked, known
from samplewise.losses.kernels.inputs import Factor, Inputs, refuse_nan
from samplewise.losses.kernels.targets import Targets
from samplewise.losses.token_losses import check_token_weights

Outcome = tuple[Tensor, Tensor, Tensor, Tensor, Tensor]
"""(value [], loss [n], factors [n], tokens [n], mass [n])."""


def objective(inputs: Inputs, targets: Targets, factors: Tensor | Factor) -> Outcome:
    """Σ u_i L_i, differentiable with respect to hidden, head and bias; the rest are constants."""
    return _Objective.apply(inputs.hidden, inputs.head, inputs.bias, inputs, targets, factors)  # pyright: ignore[reportReturnType]


def sample_losses(inputs: Inputs, targets: Targets) -> tuple[Tensor, Tensor]:
    """[n] losses that take any upstream gradient: each chunk is computed again in backward (one product more).

    And the [P] token losses, constants.
    """
    return _SampleLosses.apply(inputs.hidden, inputs.head, inputs.bias, inputs, targets)  # pyright: ignore[reportReturnType]


def scored(inputs: Inputs, targets: Targets) -> tuple[Tensor, Tensor]:
    """[n] losses and [P] token losses, without a gradient: one product."""
    dtype = matmul_dtype(inputs)
    with torch.autocast(inputs.hidden.device.type, enabled=False):
        work = Work(inputs, targets, Wanted(False, False, False), dtype)
        known(work, None)
        work.finish()
        return work.means(), work.token_loss


def refuse_gradient(loss: Tensor) -> Tensor:
    """The same losses, which raise SamplewiseError when a backward reaches them instead of adding nothing."""
    return _Refused.apply(torch.zeros((), requires_grad=True), loss)  # pyright: ignore[reportReturnType]


def matmul_dtype(inputs: Inputs) -> torch.dtype:
    """What F.linear would multiply in here: autocast's dtype where it is on, except for fp64, which autocast leaves."""
    own = torch.promote_types(inputs.hidden.dtype, inputs.head.dtype)
    device = inputs.hidden.device.type
    on = torch.is_autocast_enabled(device) and own != torch.float64
    return torch.get_autocast_dtype(device) if on else own


class _Objective(Function):
    @staticmethod
    def forward(ctx: Any, hidden: Tensor, head: Tensor, bias: Tensor | None, inputs: Inputs, targets: Targets,
                factors: Tensor | Factor) -> Outcome:  # fmt: skip
        dtype = matmul_dtype(inputs)
        with torch.autocast(hidden.device.type, enabled=False):
            asks = callable(factors) or inputs.selects
            work = Work(inputs, targets, Wanted(*ctx.needs_input_grad[:3]), dtype, whole=asks)
            if callable(factors):
                used = asked(work, factors)
            elif asks:
                given = factors.to(hidden.device)
                used = asked(work, lambda loss, tokens, index: given[index])
            else:
                used = known(work, factors)
            work.finish()
            loss = work.means()
            if callable(factors) and inputs.refuse_nan:  # once, when all are there: every look waits for the device
                refuse_nan(torch.where(targets.tokens > 0, used, 0), loss)
            if work.scale is not None:
                check_token_weights(work.scale, (len(targets),))
                used = used + work.unusable()
            value = work.objective(used, loss)
            ctx.parts = (work.hidden, *work.gradient.finish())
        ctx.like = [None if x is None else (x.shape, x.dtype) for x in (hidden, head, bias)]
        tokens, mass = work.targets.tokens, work.targets.mass.clone()  # two outputs, not one twice
        ctx.mark_non_differentiable(loss, used, tokens, mass)
        return value, loss, used, tokens, mass

    @staticmethod
    def backward(ctx: Any, *upstream: Tensor) -> Any:
        _refuse_double()
        if ctx.parts is None:
            raise SamplewiseError(
                "backward", expected="one call", got="a second, after the first freed the gradients",
                remedy="Pass retain_graph=True to the first.",
            )  # fmt: skip
        parts, kept = ctx.parts, _graph_is_kept()
        if not kept:
            ctx.parts = None
        grads = [_deliver(x, upstream[0], like, kept) for x, like in zip(parts, ctx.like, strict=True)]
        return *grads, None, None, None


class _SampleLosses(Function):
    @staticmethod
    def forward(
        ctx: Any, hidden: Tensor, head: Tensor, bias: Tensor | None, inputs: Inputs, targets: Targets
    ) -> tuple[Tensor, Tensor]:
        ctx.save_for_backward(hidden, head, bias)
        ctx.inputs, ctx.targets, ctx.dtype = inputs, targets, matmul_dtype(inputs)
        loss, token_loss = scored(inputs, targets)
        ctx.mark_non_differentiable(token_loss)
        return loss, token_loss

    @staticmethod
    def backward(ctx: Any, *upstream: Tensor) -> Any:
        _refuse_double()
        like = ctx.saved_tensors
        with torch.autocast(like[0].device.type, enabled=False):
            work = Work(replace(ctx.inputs, tally=None), ctx.targets, Wanted(*ctx.needs_input_grad[:3]), ctx.dtype)
            known(work, upstream[0])  # waits once: a sample without a gradient is left out
            work.finish()
            parts = (work.hidden, *work.gradient.finish())
        grads = [None if x is None else x.view(like[i].shape).to(like[i].dtype) for i, x in enumerate(parts)]
        return *grads, None, None


class _Refused(Function):
    @staticmethod
    def forward(ctx: Any, anchor: Tensor, loss: Tensor) -> Tensor:
        ctx.set_materialize_grads(False)
        return loss.clone()

    @staticmethod
    def backward(ctx: Any, *upstream: Tensor | None) -> Any:
        if upstream[0] is not None:
            raise SamplewiseError(
                "loss", expected="a gradient through the objective's value", got="one through the losses beside it",
                remedy="Use loss.detach() for numbers; sample_losses(..., differentiable=True) for a gradient.",
            )  # fmt: skip
        return None, None


def _deliver(part: Tensor | None, upstream: Tensor, like: tuple[torch.Size, torch.dtype], kept: bool) -> Tensor | None:
    """upstream·part in the shape and dtype of its input; the buffer itself where nobody will ask for it again."""
    if part is None:
        return None
    scaled = (part * upstream if kept else part.mul_(upstream)).to(like[1])
    # Not a view where none is needed: autograd adds a tied embedding's gradient in place only to what is not shared.
    return scaled if scaled.shape == like[0] else scaled.view(like[0])


def _graph_is_kept() -> bool:
    """Whether this backward retains the graph. Private in torch; where it is missing, a copy is made instead."""
    query = getattr(getattr(torch._C, "_autograd", None), "_get_current_graph_task_keep_graph", None)
    return query is None or query()


def _refuse_double() -> None:
    """create_graph=True turns gradients on in backward; ours are constants, and would be wrong in silence."""
    if torch.is_grad_enabled():
        raise SamplewiseError(
            "create_graph", expected="False", got=True,
            remedy='Second derivatives need the logits: use backend="reference".',
        )  # fmt: skip

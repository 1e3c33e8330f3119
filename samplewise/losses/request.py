"""`model(**inputs, samplewise=Request(…))`: losses and gradients without logits, inside the model's own forward.

Shapes: B rows, T positions, n samples of the micro-batch.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Generator
from contextlib import contextmanager
from dataclasses import dataclass
from types import MethodType
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from samplewise.core.errors import SamplewiseError
from samplewise.losses.compiled import around_the_body, in_python
from samplewise.losses.head import Head, find_head
from samplewise.losses.kernels import Backend, Factor, Select, Tally, objective, score
from samplewise.losses.own_terms import has_own_term
from samplewise.losses.sharded import Sealed

HEAD_ERRORS = (
    "labels", "shift_labels", "num_items_in_batch", "logits_to_keep", "return_dict", "output_hidden_states",
)  # fmt: skip
"""Inputs of a model's head and loss, or that change what it returns: the body does not get them."""


@dataclass(frozen=True)
class Request:
    """What `model(**inputs, samplewise=request)` is to compute; the fields mean what they mean in `losses.kernels`.

    factors: [n] or a function of complete samples; None: score only.
    select, reference, refuse_nan: only with factors. token_losses, differentiable: only when scoring.
    blank: nothing is predicted: the value is a 0 that hangs on the graph, so that ranks make the same calls.
    A mixed precision policy of FSDP2 casts the tensors in it: give `Sealed(request)`, and take `exact(result)`.
    """

    labels: Tensor
    factors: Tensor | Factor | None = None
    segments: Tensor | None = None
    token_weights: Tensor | None = None
    select: Select | None = None
    reference: Tensor | None = None
    token_losses: bool = False
    shifted: bool = False
    backend: Backend = "auto"
    chunk_bytes: int | None = None
    differentiable: bool = False
    tally: Tally | None = None
    blank: bool = False
    refuse_nan: bool = True

    def __post_init__(self) -> None:
        """Errors: SamplewiseError for a field that would be ignored."""
        scoring = self.factors is None
        for name in ("select", "reference") if scoring else ("token_losses", "differentiable"):
            value = getattr(self, name)
            if value is not None and value is not False:
                raise SamplewiseError(
                    name, expected=f"factors to be {'given' if scoring else 'left out'} with it",
                    got="none" if scoring else "some",
                    remedy="To score, use token_losses and losses.select_tokens; to train, give factors with select.",
                )  # fmt: skip


class Result(NamedTuple):
    """A tuple, so that DDP and FSDP find its tensors.

    value: [] Σ u_i L_i; None when scoring. loss: [n] nats/token. tokens: [n]. factors: [n]; None when scoring.
    aux: [] what the model and its adapters add to their loss, where they do (a router's load balancing times its
        coefficient, AdaLoRA's orthogonality); not in value.
    mass: [n] Σ m_t of the token weights; tokens without them.
    token_loss: [B, T] aligned with labels, where asked for. router: [] its load-balancing loss before the coefficient.
    sealed: the same, as it was made.
    """

    value: Tensor | None
    loss: Tensor
    tokens: Tensor
    factors: Tensor | None
    aux: Tensor | None
    mass: Tensor
    token_loss: Tensor | None = None
    router: Tensor | None = None
    sealed: Sealed[Result] | None = None


def exact(result: Result) -> Result:
    """The result as it was made, where a wrapper has cast it on the way: FSDP2 rounds what a model returns to 16 bits.

    Gradients through either are the same, but for the rounding of what multiplies the value.
    """
    cast = result.sealed is not None and result.loss.dtype != result.sealed.content.loss.dtype
    return result.sealed.content if cast and result.sealed is not None else result


def attach_objective(model: nn.Module) -> Callable[[], None]:
    """Make `model(**inputs, samplewise=Request(...))` return a `Result`; returns the function that detaches it.

    Only this instance's `forward` is wrapped: its signature, the state dict and calls without `samplewise` stay as they
    are. It works inside the forward, so that DDP and FSDP see the pass; attach before wrapping in them. With PEFT,
    attach to the PEFT model: adapters live inside its body. The request's labels count, not those among the inputs.
    """
    previous = model.__dict__.get("forward")
    state = {"on": True}

    def forward(self: nn.Module, *args: Any, samplewise: Request | Sealed[Request] | None = None, **inputs: Any) -> Any:
        if samplewise is not None and state["on"]:
            request = samplewise.content if isinstance(samplewise, Sealed) else samplewise
            result = _answer(self, request, args, inputs)
            return result._replace(sealed=Sealed(result))
        if samplewise is not None:
            inputs["samplewise"] = samplewise
        return type(self).forward(self, *args, **inputs) if previous is None else previous(*args, **inputs)

    signature = inspect.signature(model.forward)
    me = inspect.Parameter("self", inspect.Parameter.POSITIONAL_OR_KEYWORD)
    forward.__signature__ = signature.replace(parameters=[me, *signature.parameters.values()])  # pyright: ignore[reportFunctionMemberAccess]
    forward.__doc__ = model.forward.__doc__
    bound = MethodType(forward, model)  # a method, not a closure: a deep copy of the model calls itself, not this one
    model.forward = bound

    def detach() -> None:
        state["on"] = False
        if (
            model.__dict__.get("forward") is bound
        ):  # else someone (accelerate) wrapped it since: ours just passes through
            model.__dict__.pop("forward")
            if previous is not None:
                model.forward = previous

    return detach


@contextmanager
def with_objective(model: nn.Module) -> Generator[nn.Module]:
    """`attach_objective` for the length of a block.

    >>> import torch
    >>> from transformers import LlamaConfig, LlamaForCausalLM
    >>> sizes = dict(hidden_size=8, intermediate_size=8, num_hidden_layers=1, num_attention_heads=2)
    >>> ids = torch.tensor([[1, 2, 3]])
    >>> with with_objective(LlamaForCausalLM(LlamaConfig(vocab_size=32, **sizes))) as model:
    ...     model(input_ids=ids, samplewise=Request(ids, factors=torch.ones(1))).tokens
    tensor([2])
    """
    detach = attach_objective(model)
    try:
        yield model
    finally:
        detach()


@around_the_body
def _answer(model: nn.Module, request: Request, args: tuple[Any, ...], inputs: dict[str, Any]) -> Result:
    """The body on the inputs, then the kernel on its hidden states, inside the call of the head."""
    head = in_python(find_head)(model)
    for name in HEAD_ERRORS:
        inputs.pop(name, None)
    outputs = head.body(*args, **inputs)

    def compute(hidden: Tensor) -> tuple[Tensor, Result]:
        if request.blank:
            result = _blank(hidden, head)
        else:
            result = _scored(hidden, head, request) if request.factors is None else _weighed(hidden, head, request)
        return result.loss if result.value is None else result.value, result

    result = in_python(head.run)(outputs.last_hidden_state, compute)
    own = has_own_term(model) and not request.blank
    return result._replace(aux=outputs.loss if own else None, router=outputs.router if own else None)


def _blank(hidden: Tensor, head: Head) -> Result:
    """Zeros with a gradient of zeros for the hidden states and the head, whatever stands in them."""
    wide = torch.promote_types(hidden.dtype, torch.float32)
    parts = [hidden[:, :0], head.weight[:0], *([] if head.bias is None else [head.bias[:0]])]
    value = torch.stack([part.sum(dtype=wide) for part in parts]).sum()
    nothing = value.detach().new_zeros(0)
    return Result(value=value, loss=nothing, tokens=nothing.long(), factors=nothing, aux=None, mass=nothing)


def _weighed(hidden: Tensor, head: Head, request: Request) -> Result:
    more: dict[str, Any] = {name: getattr(request, name) for name in ("select", "reference", "refuse_nan")}
    assert request.factors is not None
    out = objective(hidden, head.weight, request.labels, request.factors, **more, **_options(head, request))
    return Result(
        value=out.value, loss=out.loss, tokens=out.tokens, factors=out.factors, aux=None, mass=out.mass
    )  # fmt: skip


def _scored(hidden: Tensor, head: Head, request: Request) -> Result:
    wanted: dict[str, Any] = {"differentiable": request.differentiable, "token_losses": request.token_losses}
    out = score(hidden, head.weight, request.labels, **wanted, **_options(head, request))
    return Result(
        value=None, loss=out.loss, tokens=out.tokens, factors=None, aux=None, mass=out.mass, token_loss=out.token_loss
    )  # fmt: skip


def _options(head: Head, request: Request) -> dict[str, Any]:
    names = ("segments", "token_weights", "shifted", "backend", "chunk_bytes", "tally")
    asked = {name: getattr(request, name) for name in names}
    return {"bias": head.bias, "softcap": head.softcap, "scale": head.scale, "shard": head.shard, **asked}

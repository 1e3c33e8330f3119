"""A model without its head, run inside everything that stands around it: PEFT's hooks, and the model's own loss terms.

Shapes: B rows, T positions, D hidden size.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Generator
from contextlib import contextmanager
from dataclasses import dataclass
from types import MethodType
from typing import Any

import torch
from torch import Tensor, nn

from samplewise.core.errors import SamplewiseError
from samplewise.losses.compiled import around_the_body
from samplewise.losses.own_terms import coefficient, has_router_term


@dataclass
class Hidden:
    """What a body returns in place of logits; PEFT adds an adapter's own term to `loss`, as to any model's.

    last_hidden_state: [B, T, D]. loss: [] the terms that the model and its adapters add to their loss; 0 without any.
    router: [] the router's load-balancing loss before its coefficient, where the model asks for it.
    """

    last_hidden_state: Tensor
    loss: Tensor
    router: Tensor | None = None


def unwrapped(model: nn.Module) -> nn.Module:
    """The transformers model inside a PEFT model (`PeftMixedModel` too); any other model is itself."""
    tuner: Any = getattr(model, "base_model", None)
    if not hasattr(model, "peft_config"):
        return model
    if hasattr(model, "get_base_model"):
        return model.get_base_model()  # pyright: ignore[reportCallIssue]
    return tuner.model if hasattr(tuner, "inject_adapter") else model


def decoder_of(inner: Any) -> nn.Module:
    """What computes a transformers model's hidden states; the model itself where it has no such part."""
    body = getattr(inner, "base_model", inner)
    if body is inner and hasattr(inner, "get_output_embeddings"):  # Llama 4's text model names another part
        body = getattr(inner, "model", inner)
    return body if isinstance(body, nn.Module) else inner


def body_of(model: nn.Module) -> Callable[..., Hidden]:
    """model without its head: a function of its inputs, without a cache.

    A PEFT model's own forward runs, with its transformers model answering hidden states instead of logits: so what
    PEFT does outside the layers (aLoRA's offsets, X-LoRA's scalings, prefixes) is done here too.
    """
    inner = unwrapped(model)

    @around_the_body
    def run(*args: Any, **inputs: Any) -> Hidden:
        inputs = {**inputs, "use_cache": False, "return_dict": True}
        if inner is model:
            return _hidden(inner, *args, **inputs)
        with forward_of(inner, _hidden, getattr(model, "base_model", None)), _checkpointing_of_backward(inner):
            hidden = type(model).forward(model, *args, **inputs)
        if isinstance(hidden, Hidden):
            return hidden
        raise SamplewiseError(
            "model", expected="a PEFT model that calls its model's forward", got=type(model).__name__,
            remedy='Use logits="allow" to train from logits, which takes more memory.',
        )  # fmt: skip

    return run


def with_own_terms(model: nn.Module, inputs: dict[str, Tensor], labels: Tensor) -> tuple[Any, bool]:
    """What the model itself returns, with a loss of the terms that it adds to that of the tokens, and whether it is.

    False where the model asks no `loss_function`: the loss then holds that of the tokens too. The forward is that of
    the class, whatever is wrapped around this instance's (TRL's has no logits, accelerate's is under autocast).
    """
    inner: Any = unwrapped(model)
    asked: list[bool] = []

    def nothing(*_: Any, **__: Any) -> Tensor:
        asked.append(True)
        return torch.zeros((), device=labels.device)

    names = ("_loss_function", "loss_function")  # transformers keeps it under the first
    before = {name: inner.__dict__[name] for name in names if name in inner.__dict__}
    inner.loss_function = nothing
    try:
        with forward_of(inner, type(inner).forward), _checkpointing_of_backward(inner):
            outputs = type(model).forward(model, **inputs, labels=labels, use_cache=False)
    finally:
        for name in names:
            inner.__dict__.pop(name, None)
        inner.__dict__.update(before)
    return outputs, bool(asked)


@around_the_body
def _hidden(inner: Any, *args: Any, **inputs: Any) -> Hidden:
    if inputs.get("output_hidden_states"):  # X-LoRA looks at all layers first, and needs no logits of its look
        return type(inner).forward(inner, *args, **inputs, **_fewest_logits(inner))
    if has_router_term(inner):
        return _with_router(inner, args, inputs)
    hidden = decoder_of(inner)(*args, **inputs).last_hidden_state
    return Hidden(hidden, _nothing(hidden))


@around_the_body
def _with_router(inner: Any, args: tuple[Any, ...], inputs: dict[str, Any]) -> Hidden:
    """Through the model's whole forward, since each computes its router's term in its own way.

    Its head is called for one position of each row, or for all where the forward cannot be asked for fewer.
    """
    seen: list[Tensor] = []
    hook = decoder_of(inner).register_forward_hook(lambda _, __, outputs: seen.append(outputs.last_hidden_state))
    try:
        outputs = type(inner).forward(inner, *args, **inputs, **_fewest_logits(inner))
    finally:
        hook.remove()
    router = outputs.aux_loss
    term = _nothing(seen[0]) if router is None else coefficient(inner) * router.to(seen[0].device)
    return Hidden(seen[0], term, router)


def _fewest_logits(inner: nn.Module) -> dict[str, int]:
    return {"logits_to_keep": 1} if "logits_to_keep" in inspect.signature(type(inner).forward).parameters else {}


def _nothing(hidden: Tensor) -> Tensor:
    return hidden.new_zeros((), dtype=torch.promote_types(hidden.dtype, torch.float32))


@contextmanager
def forward_of(inner: nn.Module, function: Callable[..., Any], tuner: Any = None) -> Generator[None]:
    """`function(inner, …)` as this instance's forward; afterwards what was there is there again.

    tuner: of PEFT, around it; AdaptionPrompt's keeps the model's forward as its own.
    """
    instances = [inner, tuner] if getattr(tuner, "__dict__", {}).get("forward") is not None else [inner]
    before = [each.__dict__.get("forward") for each in instances]
    for each in instances:
        each.forward = MethodType(function, inner)
    try:
        yield
    finally:
        for each, own in zip(instances, before, strict=True):
            del each.forward
            if own is not None:
                each.forward = own


@contextmanager
def _checkpointing_of_backward(inner: nn.Module) -> Generator[None]:
    """No checkpointing in a forward that no backward follows: aLoRA would wait for it, and refuse the next forward."""
    marked: list[Any] = [] if torch.is_grad_enabled() else [m for m in inner.modules() if _checkpoints(m)]
    for module in marked:
        module.gradient_checkpointing = False
    try:
        yield
    finally:
        for module in marked:
            module.gradient_checkpointing = True


def _checkpoints(module: nn.Module) -> bool:
    return module.__dict__.get("gradient_checkpointing") is True

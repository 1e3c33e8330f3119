"""The head of a causal language model: found, checked against the model's own logits, and used inside its forward.

Shapes: B rows, T positions, D hidden size, V vocabulary, n samples of the micro-batch.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Generator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from types import MethodType
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from samplewise.core.columns import OURS, SEGMENTS, TOKEN_WEIGHTS
from samplewise.core.errors import SamplewiseError
from samplewise.losses.body import Hidden, body_of, decoder_of, unwrapped, with_own_terms
from samplewise.losses.kernels import Backend, Factor, Select, Tally, objective, sample_losses, score
from samplewise.losses.look import evaluating, few_tokens, losses_from_logits, quiet
from samplewise.losses.own_terms import has_own_term, refuse_unweighable
from samplewise.losses.token_losses import token_counts

# Of a head in 16 bits both paths round logits of some tens to 1/8 or so; a wrong scale or cap is far above it still.
TOLERANCE = {torch.float16: 2e-3, torch.bfloat16: 2e-2}
REMEDY = 'Train from logits with logits="allow", at their price.'
REFERENCE_REMEDY = "Merge its adapters (merge_and_unload), or give its losses as a column of the data: reference_loss."

HEADS = frozenset(
    {"labels", "shift_labels", "num_items_in_batch", "logits_to_keep", "return_dict", "output_hidden_states"}
)
"""Inputs of a model's head and loss, or that change what it returns."""


@dataclass(frozen=True)
class Head:
    """What stands between a model's hidden states and its logits.

    body: the model without its head, inside PEFT's own forward; body(**inputs).last_hidden_state [B, T, D], no cache.
    weight [V, D], bias [V] or None: parameters of the output embedding.
    softcap, scale: logits = softcap·tanh((hidden·weightᵀ + bias)·scale / softcap).
    """

    body: Callable[..., Hidden]
    weight: Tensor
    bias: Tensor | None
    softcap: float | None
    scale: float


@dataclass(frozen=True)
class Request:
    """What `model(**inputs, samplewise=request)` is to compute; the fields mean what they mean in `samplewise.losses.kernels`.

    factors: [n] or a function of complete samples; None: score only.
    select, reference: only with factors. token_losses, differentiable: only when scoring.
    """

    labels: Tensor
    factors: Tensor | Factor | None = None
    segments: Tensor | None = None
    token_weights: Tensor | None = None
    select: Select | None = None
    reference: Tensor | None = None
    token_losses: bool = False
    shifted: bool = False
    backend: Backend = "chunked"
    chunk_bytes: int | None = None
    differentiable: bool = False
    tally: Tally | None = None

    def __post_init__(self) -> None:
        """Refuse what would be ignored."""
        scoring = self.factors is None
        for name in ("select", "reference") if scoring else ("token_losses", "differentiable"):
            value = getattr(self, name)
            if value is not None and value is not False:
                raise SamplewiseError(
                    name, expected=f"{'factors' if scoring else 'no factors'} beside it",
                    got="none" if scoring else "some",
                    remedy="Score for token losses, choose with losses.select_tokens, or choose while training.",
                )  # fmt: skip


class Result(NamedTuple):
    """A tuple, so that DDP and FSDP find its tensors.

    value: [] Σ u_i L_i; None when scoring. loss: [n] nats/token. tokens: [n]. factors: [n]; None when scoring.
    aux: [] what the model and its adapters add to their loss, where they do (a router's load balancing times its
        coefficient, AdaLoRA's orthogonality); not in value.
    mass: [n] Σ m_t of the token weights; tokens without them.
    token_loss: [B, T] aligned with labels, where asked for. router: [] its load-balancing loss before the coefficient.
    """

    value: Tensor | None
    loss: Tensor
    tokens: Tensor
    factors: Tensor | None
    aux: Tensor | None
    mass: Tensor
    token_loss: Tensor | None = None
    router: Tensor | None = None


def find_head(model: nn.Module, remedy: str = REMEDY) -> Head:
    """The body and head of a transformers causal LM, PEFT-wrapped or not; SamplewiseError says what is missing.

    remedy: what the error advises for a head without a logits-free path.

    >>> from transformers import LlamaConfig, LlamaForCausalLM
    >>> sizes = dict(hidden_size=8, intermediate_size=8, num_hidden_layers=1, num_attention_heads=2)
    >>> find_head(LlamaForCausalLM(LlamaConfig(vocab_size=32, **sizes))).weight.shape
    torch.Size([32, 8])
    """
    refuse_unweighable(model)
    inner = unwrapped(model)
    name = type(inner).__name__
    config = getattr(inner, "config", None)
    body = decoder_of(inner)
    head = inner.get_output_embeddings() if hasattr(inner, "get_output_embeddings") else None  # pyright: ignore[reportCallIssue]
    if config is None or body is inner or head is None or getattr(config, "is_encoder_decoder", False):
        raise SamplewiseError(
            "model", expected="a causal LM of transformers: config, base_model and get_output_embeddings()", got=name,
            remedy="Pass the model itself, before DDP or compile; there is no logits-free path for other models.",
        )  # fmt: skip
    head = _called(head)
    _check_linear(name, head, remedy)
    text = config.get_text_config()
    return Head(body_of(model), head.weight, head.bias, _softcap(text), _scale(text))


def check_head(model: nn.Module, batch: Mapping[str, Any], remedy: str = REMEDY) -> None:
    """Compare both paths on at most 64 tokens of `batch`; SamplewiseError where sample losses differ by more than 1e-4.

    batch: input_ids [B, T], attention_mask [B, T] if rows are padded, position_ids if documents are packed: the first
        tokens of the first ones are taken, none across a restart. Labels play no part, every token is scored.
    Eval mode, no gradient, no autocast, no global randomness; 16-bit heads are held to their rounding instead.
    The terms that the model adds to its loss are compared too. Quick enough to call before the first step: it guards
    models whose head or loss this module does not know.
    """
    found = find_head(model, remedy)
    inputs, labels = few_tokens(batch)
    with quiet(model, found.weight.device):
        body = found.body(**inputs)
        hidden, head = body.last_hidden_state, {"bias": found.bias, "softcap": found.softcap, "scale": found.scale}
        ours, counts = sample_losses(hidden, found.weight, labels, **head)
        outputs, asked = with_own_terms(model, inputs, labels)
        logits = outputs.logits.to(torch.promote_types(outputs.logits.dtype, torch.float32))
        theirs = losses_from_logits(logits, labels)
        terms = outputs.loss if asked else outputs.loss - (theirs * counts).sum() / counts.sum()
    same = ~ours.isfinite() & ~theirs.isfinite()  # a bad row is the step's business
    worst = float(((ours - theirs).abs() / theirs.abs().clamp(min=1)).masked_fill(same, 0.0).max())
    limit = TOLERANCE.get(found.weight.dtype, 1e-4)
    if not worst <= limit:
        raise SamplewiseError(
            "model", expected=f"losses without logits within {limit} of those from logits",
            got=f"{worst:.2g} for {type(unwrapped(model)).__name__}: it does more than its head, scale and cap",
            remedy=remedy,
        )  # fmt: skip
    _check_terms(model, float(body.loss), float(terms), limit * max(1.0, float(theirs.abs().max())))


def reference_token_losses(model: nn.Module, batch: Mapping[str, Any], *, chunk_bytes: int | None = None) -> Tensor:
    """[B, T] −log p of every label under a second model, nats, aligned with labels, 0 where nothing is predicted.

    model: any that `find_head` knows, on the batch's device; it is called in eval mode without gradient and keeps no
        logits. In a DDP or FSDP run it stands outside the wrapper, whole on each rank.
    batch: labels [B, T], not shifted, the model's own inputs, and this library's keys (`samplewise.core.columns`): segments
        say what is predicted, tokens of weight 0 are not.
    Errors: SamplewiseError for heads without a logits-free path, and labels outside this model's vocabulary.

    >>> from transformers import LlamaConfig, LlamaForCausalLM
    >>> sizes = dict(hidden_size=8, intermediate_size=8, num_hidden_layers=1, num_attention_heads=2)
    >>> ids = torch.tensor([[1, 2, 3]])
    >>> model = LlamaForCausalLM(LlamaConfig(vocab_size=32, **sizes))
    >>> reference_token_losses(model, {"input_ids": ids, "labels": ids}).shape
    torch.Size([1, 3])
    """
    head, labels = find_head(model, REFERENCE_REMEDY), batch["labels"]
    segments, token_weights = batch.get(SEGMENTS), batch.get(TOKEN_WEIGHTS)
    if not bool(token_counts(labels, token_weights, segments).any()):
        return torch.zeros_like(labels, dtype=torch.float32)
    inputs = {key: value for key, value in batch.items() if key != "labels" and key not in OURS}
    with evaluating(model):
        hidden = head.body(**inputs).last_hidden_state
        scores = score(hidden, head.weight, labels, bias=head.bias, softcap=head.softcap, scale=head.scale,
                       segments=segments, token_weights=token_weights, chunk_bytes=chunk_bytes,
                       token_losses=True)  # fmt: skip
    assert scores.token_loss is not None
    return scores.token_loss


def attach_objective(model: nn.Module) -> Callable[[], None]:
    """Let `model(**inputs, samplewise=Request(...))` return a `Result`; returns the function that takes it back.

    Only this instance's `forward` is wrapped: its signature, the state dict and calls without `samplewise` stay as they
    are. It works inside the forward, so that DDP and FSDP see the pass; attach before wrapping in them. With PEFT,
    attach to the PEFT model: adapters live inside its body. The request's labels count, not those among the inputs.
    """
    previous = model.__dict__.get("forward")
    state = {"on": True}

    def forward(self: nn.Module, *args: Any, samplewise: Request | None = None, **inputs: Any) -> Any:
        if samplewise is not None and state["on"]:
            return _answer(self, samplewise, args, inputs)
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


def _answer(model: nn.Module, request: Request, args: tuple[Any, ...], inputs: dict[str, Any]) -> Result:
    """Body, then kernel. The head is looked up on every call, since FSDP replaces its parameters between calls."""
    head = find_head(model)
    for name in (
        "labels",
        "shift_labels",
        "num_items_in_batch",
        "logits_to_keep",
        "return_dict",
        "output_hidden_states",
    ):
        inputs.pop(name, None)
    outputs = head.body(*args, **inputs)
    hidden, router = outputs.last_hidden_state, outputs.router
    options: dict[str, Any] = {
        "bias": head.bias, "softcap": head.softcap, "scale": head.scale, "segments": request.segments,
        "token_weights": request.token_weights, "shifted": request.shifted, "backend": request.backend,
        "chunk_bytes": request.chunk_bytes, "tally": request.tally,
    }  # fmt: skip
    aux = outputs.loss if has_own_term(model) else None
    if request.factors is not None:
        chosen: dict[str, Any] = {"select": request.select, "reference": request.reference}
        out = objective(hidden, head.weight, request.labels, request.factors, **chosen, **options)
        return Result(out.value, out.loss, out.tokens, out.factors, aux, out.mass, router=router)
    wanted: dict[str, Any] = {"differentiable": request.differentiable, "token_losses": request.token_losses}
    scores = score(hidden, head.weight, request.labels, **wanted, **options)
    return Result(None, scores.loss, scores.tokens, None, aux, scores.mass, scores.token_loss, router)


def _check_terms(model: nn.Module, ours: float, theirs: float, limit: float) -> None:
    """A term that the model adds to its loss and that is not known here would be left out of training."""
    if abs(ours - theirs) > limit:  # False for NaN: a bad row is the step's business
        raise SamplewiseError(
            "model", expected=f"a loss of {ours:.4g} beside that of the tokens, as far as is known here",
            got=f"{theirs:.4g} for {type(unwrapped(model)).__name__}",
            remedy="It adds a term of its own that weights would leave out: switch it off in the model's config.",
        )  # fmt: skip


def _called(head: nn.Module) -> Any:
    """What a wrapper of PEFT's `modules_to_save` calls: the active adapter's own copy, or the original without one."""
    copies: Any = getattr(head, "modules_to_save", None)
    if not isinstance(copies, nn.ModuleDict) or head._forward_hooks or head._forward_pre_hooks:
        return head
    wrapper: Any = head
    active = [] if wrapper.disable_adapters else wrapper.active_adapters
    return copies[active[0]] if active and all(name in copies for name in active) else wrapper.original_module


def _check_linear(name: str, head: nn.Module, remedy: str) -> None:
    """Only a plain linear head is hidden·weightᵀ + bias: no adapter, no quantisation, no hook, no shards."""
    weight = getattr(head, "weight", None)
    found = None
    if hasattr(head, "base_layer") or hasattr(head, "original_module"):
        found = "one adapted by PEFT (LoRA, or single tokens trained)"
        remedy = f"Leave the head out of target_modules and trainable_token_indices. Or: {remedy}"
    elif (
        type(head).forward is not nn.Linear.forward or not isinstance(weight, Tensor) or not weight.is_floating_point()
    ):
        found = "one with a forward of its own"
    elif hasattr(weight, "full_tensor"):
        found = "one sharded on its own; shard it with the root module and call the model, not its parts"
    elif head._forward_hooks or head._forward_pre_hooks:
        found = "one with forward hooks, which would not run"
    if found is not None:
        raise SamplewiseError(
            "model", expected="a plain nn.Linear as output embedding", got=f"{type(head).__name__} in {name}: {found}",
            remedy=remedy,
        )  # fmt: skip


def _softcap(config: Any) -> float | None:
    """Gemma and others: final_logit_softcapping; RecurrentGemma: logits_soft_cap."""
    cap = getattr(config, "final_logit_softcapping", None)
    return cap if cap is not None else getattr(config, "logits_soft_cap", None)


def _scale(config: Any) -> float:
    """What logits are multiplied by, under the names that models have for it (transformers 5)."""
    for name in ("logit_scale", "output_multiplier", "lm_head_multiplier"):  # Cohere; Muse; Falcon-H1
        if isinstance(getattr(config, name, None), (int, float)):
            return float(getattr(config, name))
    scaling = getattr(config, "logits_scaling", None)
    if scaling is None:
        return 1.0
    return float(scaling) if config.model_type == "hyperclovax" else 1 / scaling  # Granite, MiniCPM3 divide

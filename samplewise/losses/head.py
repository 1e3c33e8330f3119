"""The head of a causal language model: found, and refused where it is more than a matrix product.

Shapes: B rows, T positions, D hidden size, V vocabulary.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, TypeVar

from torch import Tensor, nn

from samplewise.core.errors import SamplewiseError
from samplewise.losses.body import Hidden, body_of, decoder_of, unwrapped
from samplewise.losses.kernels import Shard
from samplewise.losses.own_terms import has_router_term, refuse_unweighable
from samplewise.losses.sharded import Unit, has_foreign_hooks, in_pieces, is_unit, vocabulary_shard

REMEDY = 'Use logits="allow" to train from logits, which takes more memory.'
IN_PIECES = "one in pieces; call the model that FSDP wraps, not its parts, and shard it in no other way"

T = TypeVar("T")


@dataclass(frozen=True)
class Head:
    """What stands between a model's hidden states and its logits.

    body: the model without its head, inside PEFT's own forward; body(**inputs).last_hidden_state [B, T, D], no cache.
    linear: what holds the weight. unit: what FSDP2 shards it with, where that is not the whole model.
    softcap, scale: logits = softcap·tanh((hidden·weightᵀ + bias)·scale / softcap).
    """

    body: Callable[..., Hidden]
    linear: nn.Linear
    softcap: float | None
    scale: float
    unit: Unit | None = None

    @property
    def weight(self) -> Tensor:
        """[V, D], looked up each time: FSDP replaces parameters between calls; of a split vocabulary this rank's rows.

        Errors: SamplewiseError if in pieces otherwise.
        """
        if self.shard is not None:
            return self.linear.weight.to_local()  # pyright: ignore[reportAttributeAccessIssue]
        if in_pieces(self.linear.weight):
            raise _not_plain(type(self.linear).__name__, IN_PIECES, "Under FSDP2 call the model itself.")
        return self.linear.weight

    @property
    def bias(self) -> Tensor | None:
        """[V], or None for a head without one; of a split vocabulary this rank's."""
        bias: Any = self.linear.bias
        return bias if bias is None or self.shard is None else bias.to_local()

    @property
    def shard(self) -> Shard | None:
        """Which rows of the vocabulary this rank has, where tensor parallelism splits it."""
        return vocabulary_shard(self.linear.weight)

    def run(self, hidden: Tensor, compute: Callable[[Tensor], tuple[Tensor, T]]) -> T:
        """What `compute` makes of hidden while weight and bias are whole; see `sharded.Unit.run`."""
        return compute(hidden)[1] if self.unit is None else self.unit.run(hidden, compute)


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
    linear = _called(head)
    unit = next((each for each in (head, linear) if is_unit(each)), None)
    _check_linear(name, linear, unit, remedy)
    text = config.get_text_config() if hasattr(config, "get_text_config") else config  # a model of one's own
    sharded = None if unit is None else Unit(unit, called=has_router_term(inner))
    return Head(body_of(model), linear, _softcap(text), _scale(text), sharded)


def _called(head: nn.Module) -> Any:
    """What a wrapper of PEFT's `modules_to_save` calls: the active adapter's own copy, or the original without one."""
    copies: Any = getattr(head, "modules_to_save", None)
    if not isinstance(copies, nn.ModuleDict) or has_foreign_hooks(head):
        return head
    wrapper: Any = head
    active = [] if wrapper.disable_adapters else wrapper.active_adapters
    return copies[active[0]] if active and all(name in copies for name in active) else wrapper.original_module


def _check_linear(name: str, head: nn.Module, unit: nn.Module | None, remedy: str) -> None:
    """Only a plain linear head is hidden·weightᵀ + bias: no adapter, no quantisation, no hook, no shards but FSDP's."""
    weight = getattr(head, "weight", None)
    found = None
    if hasattr(head, "base_layer") or hasattr(head, "original_module"):
        found = "one adapted by PEFT (LoRA, or single tokens trained)"
        remedy = f"Leave the head out of target_modules and trainable_token_indices. Or: {remedy}"
    elif (
        type(head).forward is not nn.Linear.forward or not isinstance(weight, Tensor) or not weight.is_floating_point()
    ):
        found = "one with a forward of its own"
    elif in_pieces(weight) and unit is None and vocabulary_shard(weight) is None:
        found = IN_PIECES
    elif has_foreign_hooks(head):
        found = "one with forward hooks, which would not run"
    if found is not None:
        raise _not_plain(f"{type(head).__name__} in {name}", found, remedy)


def _not_plain(head: str, found: str, remedy: str) -> SamplewiseError:
    return SamplewiseError(
        "model", expected="a plain nn.Linear as output embedding", got=f"{head}: {found}", remedy=remedy
    )


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

"""The reference model: a second, frozen model whose losses micro-batches get before they are planned."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import torch
from torch import Tensor, nn

from samplewise.core.clock import Clock
from samplewise.core.errors import SamplewiseError
from samplewise.core.host import fetched, host
from samplewise.core.micro_batch import MicroBatch
from samplewise.core.rule import Rule
from samplewise.core.token_rule import TokenRule
from samplewise.engine.base_weights import counts_of
from samplewise.engine.options import WeightingOptions
from samplewise.engine.rows import is_packed
from samplewise.losses.packing_check import check_packing
from samplewise.losses.reference import reference_token_losses
from samplewise.losses.token_losses import sample_means
from samplewise.rules.tokens import check_reference


class Reference:
    """Reference losses of samples, for rules that read them where the data has no column; of tokens, for token rules.

    Costs one forward of every token where it runs.
    """

    def __init__(self, options: WeightingOptions) -> None:
        self.model = options.frozen_reference()
        self.options = options
        self.looked = False  # whether it was seen to keep packed segments apart
        check_used(self.model, options)

    def check(self, model: nn.Module) -> None:
        """Errors: SamplewiseError where the reference model shares parameters, or has another vocabulary."""
        if self.model is not None:
            _check_apart(self.model, model)
            _check_vocabulary(self.model, model)

    def runs(self, micro: MicroBatch) -> bool:
        """Whether the second model runs: not where a column already has what the rule reads."""
        return self.model is not None and (_needs_tokens(self.options.token_rule) or micro.reference is None)

    def add(self, batches: list[MicroBatch], device: torch.device, clock: Clock) -> list[MicroBatch]:
        """The micro-batches with `tokens_before` where a token rule will leave some out, and the reference losses."""
        if self.options.token_rule is not None and not self.options.token_rule.reweighs:
            _check_token_weights(batches[0], self.options.per)
            batches = [replace(micro, tokens_before=counts_of(micro).cpu()) for micro in batches]
        if self.model is None or not self.runs(batches[0]):
            return batches
        with clock.timed("reference"):
            model = self.model.to(device)
            token = [self._token_losses(model, micro) for micro in batches]
            known = fetched(map(_of_samples, batches, token))  # one wait for all
        if _needs_tokens(self.options.token_rule):
            check_reference(sum(int(host(own["bad"])) for own in known))
            batches = [replace(micro, token_reference=own) for micro, own in zip(batches, token, strict=True)]
        pairs = zip(batches, known, strict=True)
        return [m if m.reference is not None else replace(m, reference=own["loss"].double()) for m, own in pairs]

    def _token_losses(self, model: nn.Module, micro: MicroBatch) -> Tensor:
        if is_packed(micro) and not self.looked:
            self.looked = True
            check_packing(model, micro, reference_token_losses)
        return reference_token_losses(model, micro)


def _of_samples(micro: MicroBatch, token: Tensor) -> dict[str, Tensor]:
    """What the host reads of token losses [B, T]: the samples' [n], and how many are not finite, []."""
    loss, _ = sample_means(token, micro.targets, segments=micro.segments, token_weights=micro.token_weights)
    return {"loss": loss, "bad": (~token.isfinite()).sum()}


def _needs_tokens(token_rule: TokenRule | None) -> bool:
    return token_rule is not None and token_rule.needs_reference


def check_used(model: nn.Module | None, options: WeightingOptions) -> None:
    """Errors: SamplewiseError where the second model is missing, or nothing reads its losses."""
    rule: Rule = options.rule
    token = options.token_rule
    if _needs_tokens(token) and model is None:
        raise SamplewiseError(
            "reference_model", expected=f"a reference model, which {token} compares with", got=None,
            remedy="Give a model with the same tokenizer: a column holds sample losses, not token losses.",
        )  # fmt: skip
    if model is not None and "reference" not in rule.required_fields and not _needs_tokens(token):
        got = f"{rule}{'' if token is None else f' and {token}'}, which does not"
        raise SamplewiseError(
            "reference_model", expected="a rule that reads it", got=got,
            remedy="For example by('excess', ir_dro(r=1.0)), or token_rule='rho1(keep=0.6)'.",
        )  # fmt: skip


def _check_apart(reference: nn.Module, model: nn.Module) -> None:
    if {id(p) for p in reference.parameters()} & {id(p) for p in model.parameters()}:
        raise SamplewiseError(
            "reference_model", expected="a model of its own", got="one that shares parameters with the trained one",
            remedy="Load it again, or copy it before adapters are added: shared parameters would be frozen.",
        )  # fmt: skip


def _check_vocabulary(reference: nn.Module, model: nn.Module) -> None:
    sizes = [_vocabulary(each) for each in (model, reference)]
    if sizes[0] != sizes[1]:
        raise SamplewiseError(
            "reference_model", expected=f"a model with the same vocabulary of {sizes[0]} tokens", got=sizes[1],
            remedy="Choose a model with the same tokenizer.",
        )  # fmt: skip


def _vocabulary(model: Any) -> int:
    inner = model.get_base_model() if hasattr(model, "get_base_model") else model
    return inner.get_output_embeddings().weight.shape[0]


def _check_token_weights(micro: MicroBatch, per: str) -> None:
    if micro.token_weights is not None and per == "token":
        raise SamplewiseError(
            "token_rule", expected="per='sample' for data with token_weights", got="per='token'",
            remedy="Use per='sample', or leave out the token rule or the column token_weights.",
        )  # fmt: skip

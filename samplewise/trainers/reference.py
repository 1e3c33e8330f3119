"""A second model, run without gradient: its losses of samples and of tokens stand in every micro-batch."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Any

from torch import nn
from transformers import Trainer

from samplewise.core.columns import BEFORE, REFERENCE, SEGMENTS, TOKEN_REFERENCE, TOKEN_WEIGHTS, Batch
from samplewise.core.errors import SamplewiseError
from samplewise.core.rule import Rule
from samplewise.engine.figures import Figures
from samplewise.engine.rows import is_packed
from samplewise.losses.head import reference_token_losses
from samplewise.losses.packing_check import check_packing
from samplewise.losses.token_losses import sample_means, token_counts
from samplewise.rules import parse_token_rule
from samplewise.rules.tokens import TokenRule

logger = logging.getLogger("samplewise")

_Host = Trainer if TYPE_CHECKING else object


def as_token_rule(rule: object) -> TokenRule | None:
    """A token rule, its text, or None. Errors: SamplewiseError on anything else."""
    if isinstance(rule, str):
        return parse_token_rule(rule)
    if rule is not None and not isinstance(rule, TokenRule):
        raise SamplewiseError(
            "token_rule", expected="a TokenRule or its text", got=repr(rule), remedy="For example rho1(keep=0.6)."
        )
    return rule


def as_reference(model: object) -> nn.Module | None:
    """A model to compare with: itself, or what `load_model` makes of a name; frozen and in evaluation mode."""
    if model is None:
        return None
    if isinstance(model, str):
        from samplewise.models import load_model

        model = load_model(model)[0]
    if not isinstance(model, nn.Module):
        raise SamplewiseError(
            "reference_model", expected="a causal language model, or its name", got=type(model).__name__,
            remedy="A hub id, a folder or a .gguf file is a name.",
        )  # fmt: skip
    return model.eval().requires_grad_(False)


class ReferenceMixin(_Host):
    """Adds reference losses to micro-batches before they are planned."""

    rule: Rule
    token_rule: TokenRule | None
    reference_model: nn.Module | None
    per: str
    normalize: str
    _figures: Figures
    _reference_looked = False  # whether it was seen to keep packed segments apart
    _referred = False  # whether the second model ran for this step

    def check_reference(self) -> None:
        """Errors: SamplewiseError where the second model is missing, unused, the first, or of another vocabulary."""
        token, model = self.token_rule, self.reference_model
        if token is not None and token.needs_reference and model is None:
            raise SamplewiseError(
                "reference_model", expected=f"a second model, which {token} compares with", got=None,
                remedy="Give a model of the same tokenizer; a column holds sample losses, not those of tokens.",
            )  # fmt: skip
        if token is not None and self.normalize == "micro":
            raise SamplewiseError(
                "normalize", expected="'step' with a token rule", got="'micro'", remedy="Leave one of them out."
            )
        if model is None:
            return
        if "reference" not in self.rule.needs and (token is None or not token.needs_reference):
            got = f"{self.rule}{'' if token is None else f' and {token}'}, which does not"
            raise SamplewiseError(
                "reference_model", expected="a rule that reads it", got=got,
                remedy="For example by('excess', ir_dro(r=1.0)), or token_rule='rho1(keep=0.6)'.",
            )  # fmt: skip
        if {id(p) for p in model.parameters()} & {id(p) for p in self.model.parameters()}:  # pyright: ignore
            raise SamplewiseError(
                "reference_model", expected="a model of its own", got="one that shares parameters with the trained one",
                remedy="It would be frozen, or adapted, with it: load it again, or copy it before adapters are added.",
            )  # fmt: skip
        sizes = [_vocabulary(each) for each in (self.model, model)]
        if sizes[0] != sizes[1]:
            raise SamplewiseError(
                "reference_model", expected=f"one of the same vocabulary, {sizes[0]} tokens", got=sizes[1],
                remedy="Its losses must be of the same tokens: take a model with the same tokenizer.",
            )  # fmt: skip

    def _with_reference(self, batches: list[Batch]) -> None:
        if self.token_rule is not None:
            for batch in batches:
                self._check_tokens(batch)
                batch[BEFORE] = token_counts(batch["labels"], batch.get(TOKEN_WEIGHTS), batch.get(SEGMENTS)).cpu()
        self._referred = self._refers(batches)
        if not self._referred:
            return
        with self._figures.clock.timed("reference"), self.accelerator.autocast():
            assert self.reference_model is not None
            model = self.reference_model.to(self.args.device)
            for batch in batches:
                self._refer(model, batch)

    def _refers(self, batches: list[Batch]) -> bool:
        """Whether the second model runs: not where a column already has what the rule reads."""
        token = self.token_rule is not None and self.token_rule.needs_reference
        return self.reference_model is not None and (token or REFERENCE not in batches[0])

    def _refer(self, model: nn.Module, batch: Batch) -> None:
        if is_packed(batch) and not self._reference_looked:
            self._reference_looked = True
            check_packing(model, batch, reference_token_losses)
        token = reference_token_losses(model, batch)
        if self.token_rule is not None:
            batch[TOKEN_REFERENCE] = token
        if REFERENCE not in batch:
            owner, weights = batch.get(SEGMENTS), batch.get(TOKEN_WEIGHTS)
            batch[REFERENCE] = sample_means(token, batch["labels"], segments=owner, token_weights=weights)[0].double()

    def _check_tokens(self, batch: Batch) -> None:
        if TOKEN_WEIGHTS in batch and self.per == "token":
            raise SamplewiseError(
                "token_rule", expected="per='sample' for data with token_weights", got="per='token'",
                remedy="A sample would count by the tokens left of it and by their weights at once: leave one out.",
            )  # fmt: skip


def _vocabulary(model: Any) -> int:
    inner = model.get_base_model() if hasattr(model, "get_base_model") else model
    return inner.get_output_embeddings().weight.shape[0]

"""How samples are weighed: the options of trainers and loops, and the one check of those of files."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, fields
from typing import Any, get_args

from torch import nn

from samplewise.core.errors import SamplewiseError
from samplewise.core.rule import Rule
from samplewise.core.token_rule import TokenRule
from samplewise.engine.weighting import TrainingBackend, Weighting, weighting_values
from samplewise.rules.base import refuses_negative
from samplewise.rules.parse import parse_rule, parse_token_rule


@dataclass(frozen=True, kw_only=True)
class WeightingOptions(Weighting):
    """How the samples of a step are weighed: the fields of `Weighting`, which also take values that files cannot hold.

    rule: a Rule or its text. Required.
    token_rule: a TokenRule or its text, `rho1(…)`; or it stands in the rule, `chain(flow(), dft())`.
    reference_model: a model, or its name. log_samples: also a Path.
    per, normalize, pool, max_nonfinite, allow_negative, norm, logits, backend, loss_from: as in
        `samplewise.engine.weighting`.
    losses: a loss of your own, (model, micro-batch) -> ([n] losses, [n] counts of tokens), differentiable, in place of
        the causal language model's: preference pairs, classifiers, encoders. Counts are 1 each where there are none.
    turns: every unbroken run of predicted tokens (an assistant's turn) is a sample of its own; by default a row or,
        where rows are packed, a segment is.
    min_stored_corr: the rank correlation of stored and fresh losses below which `loss_from="stored"` scores all rows.
    Rules given as text become rules. Errors: SamplewiseError on values outside these, and on options that exclude each
    other.
    """

    rule: Any = None
    token_rule: Any = None
    reference_model: Any = None
    log_samples: Any = None
    losses: Callable[..., Any] | None = None
    turns: bool = False
    min_stored_corr: float = 0.7

    def __post_init__(self) -> None:
        """Read rules from text, and check every option. Errors: SamplewiseError naming the option."""
        object.__setattr__(self, "rule", as_rule(self.rule))
        object.__setattr__(self, "token_rule", token_rule_of(self.rule, self.token_rule))
        for name, choices in CHOICES.items():
            check_choice(name, getattr(self, name), choices)
        _check_share("max_nonfinite", self.max_nonfinite, 0, "a share in [0, 1]", "0.01 allows one in a hundred.")
        _check_share(
            "min_stored_corr", self.min_stored_corr, -1, "a rank correlation in [-1, 1]",
            "0.7 is the default; -1 always takes stored losses.",
        )  # fmt: skip
        self._check_pool()
        self._check_together()
        self._check_scale()

    def _check_pool(self) -> None:
        pool = self.pool
        if isinstance(pool, bool) or not isinstance(pool, int) or pool < 1 or (pool > 1 and self.normalize == "micro"):
            raise SamplewiseError(
                "pool", expected="a whole number of 1 or more, with normalize='step'", got=repr(pool),
                remedy="Use pool=1 to draw only the rows that are trained on.",
            )  # fmt: skip

    def _check_together(self) -> None:
        rule: Rule = self.rule
        selects = self.token_rule is not None and not self.token_rule.reweighs
        without_effect = not rule.needs_loss or self.normalize == "micro" or selects
        if self.loss_from == "stored" and without_effect:
            raise SamplewiseError(
                "loss_from",
                expected="'fresh' with a rule that needs no loss, a token rule that selects, or normalize='micro'",
                got="stored", remedy="Leave loss_from out: a rule must read sample losses over the whole step.",
            )  # fmt: skip
        if self.token_rule is not None and self.normalize == "micro":
            raise SamplewiseError(
                "normalize",
                expected="'step' with a token rule",
                got="'micro'",
                remedy="Remove the token rule, or use normalize='step'.",
            )
        needs_tokens = {"token_rule": self.token_rule, "reference_model": self.reference_model, "turns": self.turns}
        needs_tokens["backend"] = self.backend != "auto"
        for name, value in needs_tokens.items():
            if self.losses is not None and value:
                raise SamplewiseError(
                    name, expected="no loss function of your own", got="losses=…",
                    remedy=f"{name} works on the tokens of a language model: leave one of them out.",
                )  # fmt: skip

    def _check_scale(self) -> None:
        if self.allow_negative and (other := _first(self.rule, "multiplies")) is not None:
            raise refuses_negative(other)
        if self.norm == "weights":
            return
        if self.per != "token":
            raise SamplewiseError(
                "norm", expected="'weights' with per='sample'", got=repr(self.norm),
                remedy='Add per="token": only then is a step divided by tokens.',
            )  # fmt: skip
        if (other := _first(self.rule, "absolute")) is not None:
            raise SamplewiseError(
                "norm", expected="'weights', or a rule whose weights have a scale: column_weights(), uniform(), "
                "focal(…), a selection", got=f"'nonzero_tokens' with {other}",
                remedy="Leave norm out: the weights of this rule are known up to a common factor only.",
            )  # fmt: skip

    def of_all_ranks(self) -> dict[str, object]:
        """The options that every rank must have alike, by name."""
        names = ("per", "normalize", "pool", "max_nonfinite", "allow_negative", "norm")
        return {"rule": self.rule.expression} | {name: getattr(self, name) for name in names}

    def frozen_reference(self) -> nn.Module | None:
        """The reference model, frozen and in evaluation mode; None where there is none."""
        model = self.reference_model
        if model is None:
            return None
        if not isinstance(model, nn.Module):
            raise SamplewiseError(
                "reference_model", expected="a causal language model, or its name", got=type(model).__name__,
                remedy="Pass a loaded model, a hub id, a folder or a .gguf file.",
            )  # fmt: skip
        return model.eval().requires_grad_(False)


CHOICES: Mapping[str, tuple[object, ...]] = {
    "per": ("sample", "token"),
    "normalize": ("step", "micro"),
    "logits": ("refuse", "allow"),
    "turns": (True, False),
    "allow_negative": (True, False),
    "norm": ("weights", "nonzero_tokens"),
    "loss_from": ("fresh", "stored"),
    "backend": get_args(TrainingBackend),
}


def _first(rule: Rule, trait: str) -> Rule | None:
    """The part of a rule, or it itself, that lacks a trait; None where it has it."""
    if getattr(rule, trait):
        return None
    parts = [_first(part, trait) for part in rule.children if isinstance(part, Rule)]
    return next((part for part in parts if part is not None), rule)


def split_options(given: dict[str, Any]) -> tuple[WeightingOptions, dict[str, Any]]:
    """The options among keyword arguments, and the rest of these."""
    names = {each.name for each in fields(WeightingOptions)}
    own = {name: value for name, value in given.items() if name in names}
    return WeightingOptions(**own), {name: value for name, value in given.items() if name not in names}


def checked_options(config: object) -> WeightingOptions:
    """The options of a file's configuration (a `Weighting`), read and checked. Errors: as `WeightingOptions`."""
    return WeightingOptions(**weighting_values(config))


def as_rule(rule: object) -> Rule:
    """A rule, or its text. Errors: SamplewiseError on None or anything else."""
    if isinstance(rule, str):
        return parse_rule(rule)
    if not isinstance(rule, Rule):
        raise SamplewiseError(
            "rule", expected="a Rule or its text", got=repr(rule),
            remedy="For example ir_dro(r=1.0), or uniform() for equal weights.",
        )  # fmt: skip
    return rule


def as_token_rule(rule: object) -> TokenRule | None:
    """A token rule, its text, or None. Errors: SamplewiseError on anything else."""
    if isinstance(rule, str):
        return parse_token_rule(rule)
    if rule is not None and not isinstance(rule, TokenRule):
        raise SamplewiseError(
            "token_rule", expected="a TokenRule or its text", got=repr(rule), remedy="For example rho1(keep=0.6)."
        )
    return rule


def token_rule_of(rule: Rule, given: object) -> TokenRule | None:
    """The token rule that is given beside a rule, or stands in its chain. Errors: SamplewiseError where there are two.

    given: a TokenRule, its text or None.
    """
    token_rule = as_token_rule(given)
    if token_rule is not None and rule.token_rule is not None:
        raise SamplewiseError(
            "token_rule", expected=f"none beside {rule.token_rule}, which stands in the rule", got=repr(token_rule),
            remedy="Leave one of them out.",
        )  # fmt: skip
    return rule.token_rule if token_rule is None else token_rule


def check_choice(name: str, value: object, choices: tuple[object, ...]) -> None:
    """Errors: SamplewiseError unless `value` is one of `choices`."""
    if value not in choices:
        raise SamplewiseError(
            name, expected=" or ".join(map(repr, choices)), got=repr(value), remedy="Choose one of these."
        )


def _check_share(name: str, value: object, low: float, expected: str, remedy: str) -> None:
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not low <= value <= 1:
        raise SamplewiseError(name, expected=expected, got=repr(value), remedy=remedy)

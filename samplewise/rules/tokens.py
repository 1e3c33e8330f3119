"""Rules over tokens: which of a sample's tokens count towards its loss, before any rule weighs samples."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Literal, get_args

import torch
from torch import Tensor

from samplewise.core.calls import Call, Called, called
from samplewise.core.errors import SamplewiseError
from samplewise.rules.base import check_seed, check_share, share_of, uniforms
from samplewise.rules.parse import EXAMPLE, read_call

Scope = Literal["sample", "step"]


@dataclass(frozen=True, eq=False, repr=False)
class TokenRule(Called):
    """`weights = rule(loss, reference, sample)`: a value made of a pure function, over the P tokens of its scope.

    apply: (token losses [P], token losses under the reference model [P] or None, the sample each token belongs to [P])
        -> [P] token weights of 0 or more, of which only ratios within a sample count. The order of the tokens and the
        numbers of the samples do not matter.
    scope: "sample": a token's weight follows from its own sample, so any complete samples may be given (one pass);
        "step": all the step's tokens over micro-batches and ranks must be (two passes).
    needs_reference: whether it needs a reference model's token losses.
    expression: the text that `parse_token_rule` reads back.
    call: the call that makes the rule: what it is compared, hashed and pickled as.
    """

    expression: str
    apply: Callable[[Tensor, Tensor | None, Tensor], Tensor]
    scope: Scope
    needs_reference: bool = True
    call: Call | None = field(default=None, init=False)

    def __call__(self, loss: Tensor, reference: Tensor | None, sample: Tensor) -> Tensor:
        """[P] token weights; SamplewiseError where shapes differ or the reference is missing."""
        for name, values in (("reference", reference), ("sample", sample)):
            if values is not None and (loss.dim() != 1 or values.shape != loss.shape):
                raise SamplewiseError(
                    name, expected=f"one value a token, {tuple(loss.shape)}", got=tuple(values.shape),
                    remedy="Give the predicted tokens only, in the same order.",
                )  # fmt: skip
        if reference is None and self.needs_reference:
            raise SamplewiseError(
                "reference", expected=f"token losses of a reference model for {self}", got=None,
                remedy="Give reference_model: a column holds sample losses, not token losses.",
            )  # fmt: skip
        with torch.no_grad():
            return self.apply(loss, reference, sample)


@called
def rho1(keep: float = 0.6, scope: Scope = "sample") -> TokenRule:
    """Train on the `keep` share of tokens with the highest excess loss ℓ − ℓ_reference (Rho-1, arXiv 2404.07965).

    keep: in (0, 1]. Of n tokens ⌊keep·n⌋ are kept and at least one, as every share in this library is rounded: the
        share is a ceiling on what is trained. Tokens as high as the last of them are kept too, so that neither their
        order nor a split of the step decides.
    scope: "sample": n is the sample's own; each keeps at least one token. "step": n is the step's, as the paper ranks
        within a batch; a sample may lose all its tokens: it is then no sample, as one whose labels are all −100.
    A token whose loss is NaN ranks highest, so that its sample's loss shows it. Errors: SamplewiseError on shares
    outside (0, 1], unknown scopes, and a reference that is not finite.

    >>> loss, reference = torch.tensor([3.0, 2.0, 1.0, 5.0]), torch.tensor([0.5, 1.8, 0.5, 4.9])
    >>> rho1(keep=0.5)(loss, reference, torch.tensor([0, 0, 0, 0])).tolist()
    [1.0, 0.0, 1.0, 0.0]
    """
    keep = _checked(keep, scope)

    def apply(loss: Tensor, reference: Tensor | None, sample: Tensor) -> Tensor:
        assert reference is not None
        if not bool(reference.isfinite().all()):
            raise SamplewiseError(
                "reference", expected="finite token losses", got=f"{int((~reference.isfinite()).sum())} that are not",
                remedy="Compute the reference model in a wider dtype.",
            )  # fmt: skip
        wide = torch.promote_types(loss.dtype, torch.float32)
        excess = (loss.to(wide) - reference.to(wide)).nan_to_num(nan=math.inf, posinf=math.inf, neginf=-math.inf)
        return _highest(excess, sample, keep, scope).to(wide)

    return TokenRule(f'rho1(keep={keep}, scope="{scope}")', apply, scope)


@called
def random_tokens(keep: float = 0.6, scope: Scope = "sample", seed: int = 0) -> TokenRule:
    """Train on a random `keep` share of tokens: the control that a selection of as many tokens must beat.

    keep, scope: as in `rho1`. seed: the choice is a pure function of (seed, loss), by a hash of the loss in fp32, so
        that neither the order of tokens nor the step's split decides; tokens of one loss are kept or left out together.
    It needs no second model. A token whose loss is not finite is kept, so that its sample's loss shows it.

    >>> random_tokens(keep=0.5)(torch.tensor([3.0, 2.0, 1.0, 5.0]), None, torch.tensor([0, 0, 0, 0])).sum().item()
    2.0
    """
    keep, seed = _checked(keep, scope), check_seed(seed)

    def apply(loss: Tensor, reference: Tensor | None, sample: Tensor) -> Tensor:
        bits = loss.to(torch.float32).contiguous().view(torch.int32)
        drawn = uniforms(bits.cpu(), 0, seed).masked_fill(~loss.cpu().isfinite(), math.inf)  # MPS knows no fp64
        kept = _highest(drawn, sample.cpu(), keep, scope).to(loss.device)
        return kept.to(torch.promote_types(loss.dtype, torch.float32))

    return TokenRule(f'random_tokens(keep={keep}, scope="{scope}", seed={seed})', apply, scope, needs_reference=False)


def _checked(keep: float, scope: Scope) -> float:
    if scope not in get_args(Scope):
        raise SamplewiseError(
            "scope",
            expected='"sample" or "step"',
            got=repr(scope),
            remedy='Use "sample" for one pass, "step" to rank over the whole step.',
        )
    return check_share("keep", keep, one=True)


def _highest(values: Tensor, sample: Tensor, keep: float, scope: Scope) -> Tensor:
    """[P] bool: the `keep` share of the highest values within each sample, or of all."""
    owner = sample if scope == "sample" else torch.zeros_like(sample)
    return values >= _last_kept(values, owner, keep)


def _last_kept(values: Tensor, owner: Tensor, keep: float) -> Tensor:
    """[P] for each token the lowest value that its owner keeps, of ⌊keep·n⌋ and at least one."""
    order = values.argsort(descending=True, stable=True)
    order = order[owner[order].argsort(stable=True)]  # by owner, and within one by value
    _, inverse, count = torch.unique(owner, return_inverse=True, return_counts=True)
    kept = torch.tensor([max(1, share_of(keep, n)) for n in count.tolist()], device=values.device, dtype=torch.int64)
    return values[order[count.cumsum(0) - count + kept - 1]][inverse]


TOKEN_RULES: dict[str, Callable[..., TokenRule]] = {"rho1": rho1, "random_tokens": random_tokens}
"""Every token rule that text may name."""


def parse_token_rule(text: str) -> TokenRule:
    """The token rule that `text` spells, as `parse_rule` reads rules of samples.

    >>> parse_token_rule("rho1(keep=0.6)")
    rho1(keep=0.6, scope="sample")
    """
    try:
        return read_call(text, TOKEN_RULES)
    except SamplewiseError as error:
        remedy = error.remedy.replace(EXAMPLE, 'For example "rho1(keep=0.6)".')
        where = f"token {error.argument}"
        raise SamplewiseError(where, expected=error.expected, got=error.got, remedy=remedy) from None

"""Token rules that rank: which of a sample's tokens count towards its loss, before any rule weighs samples."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import TYPE_CHECKING, get_args

from samplewise.core.calls import called
from samplewise.core.errors import SamplewiseError
from samplewise.core.host import host, is_on_host, on_device
from samplewise.core.token_rule import Scope, TokenRule
from samplewise.rules.base import check_seed, check_share, check_shares, random_bits, share_of

if TYPE_CHECKING:
    import numpy as np
    import torch
    from torch import Tensor
else:
    from samplewise.core.lazy import numpy as np
    from samplewise.core.lazy import torch


@called
def rho1(keep: float = 0.6, scope: Scope = "sample") -> TokenRule:
    """Train on the `keep` share of tokens with the highest excess loss ℓ − ℓ_reference (Rho-1, arXiv 2404.07965).

    keep: in (0, 1]. Of n tokens ⌊keep·n⌋ are kept and at least one, as every share in this library is rounded: the
        share is a ceiling on what is trained. Tokens as high as the last of them are kept too, so that neither their
        order nor a split of the step decides.
    scope: "sample": n is the sample's own; each keeps at least one token. "step": n is the step's, as the paper ranks
        within a batch; a sample may lose all its tokens: it is then no sample, as one whose labels are all −100.
    A token whose loss is NaN ranks highest, so that its sample's loss shows it. Errors: SamplewiseError on shares
    outside (0, 1], unknown scopes, and a reference that is not finite; of one on a device, which is not waited for, the
    weight is NaN (an engine looks at all of a step's at once).

    >>> loss, reference = torch.tensor([3.0, 2.0, 1.0, 5.0]), torch.tensor([0.5, 1.8, 0.5, 4.9])
    >>> rho1(keep=0.5)(loss, reference, torch.tensor([0, 0, 0, 0])).tolist()
    [1.0, 0.0, 1.0, 0.0]
    """
    keep = _checked(keep, scope)

    def apply(loss: Tensor, reference: Tensor | None, sample: Tensor) -> Tensor:
        dtype, theirs = wide(loss), finite_reference(reference)
        excess = (loss.to(dtype) - theirs.to(dtype)).nan_to_num(nan=math.inf, posinf=math.inf, neginf=-math.inf)
        kept = _highest(excess, sample, keep, scope).to(dtype)
        return kept if is_on_host(theirs) else kept.masked_fill(~theirs.isfinite(), math.nan)

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
        drawn = random_bits(bits, 0, seed).masked_fill(~loss.isfinite(), 2**53)
        return _highest(drawn, sample, keep, scope).to(wide(loss))

    return TokenRule(f'random_tokens(keep={keep}, scope="{scope}", seed={seed})', apply, scope, needs_reference=False)


@called
def token_band(drop_top: float = 0.0, drop_bottom: float = 0.0, scope: Scope = "sample") -> TokenRule:
    """Train on the tokens between the highest and the lowest losses: `band`, of tokens.

    drop_top, drop_bottom: shares in [0, 1), together below 1; of n tokens ⌊share·n⌋ are left out at each end, fewer
        where tokens equal the last one that stays: neither their order nor a split of the step decides.
    scope: as in `rho1`: n is the sample's ("sample", one pass) or the step's ("step", two passes).
    A sample of too few tokens for a share keeps them all. It needs no second model. A token whose loss is not finite is
    kept, so that its sample's loss shows it. Errors: SamplewiseError on shares out of range, and unknown scopes.

    >>> token_band(drop_top=0.25, drop_bottom=0.25)(torch.tensor([3.0, 2.0, 1.0, 5.0]), None, torch.zeros(4)).tolist()
    [1.0, 1.0, 0.0, 0.0]
    """
    _check_scope(scope)
    top, bottom = check_shares(drop_top, drop_bottom)

    def apply(loss: Tensor, reference: Tensor | None, sample: Tensor) -> Tensor:
        finite, owner = loss.isfinite(), sample if scope == "sample" else torch.zeros_like(sample)
        values = loss.to(wide(loss)).masked_fill(~finite, math.inf)
        below = values <= _at_rank(values, owner, lambda n: share_of(top, n))
        above = values >= _at_rank(values, owner, lambda n: n - 1 - share_of(bottom, n))
        return ((below & above) | ~finite).to(values)

    return TokenRule(
        f'token_band(drop_top={top}, drop_bottom={bottom}, scope="{scope}")', apply, scope, needs_reference=False
    )


def wide(loss: Tensor) -> torch.dtype:
    """The dtype of token weights: at least fp32."""
    return torch.promote_types(loss.dtype, torch.float32)


def finite_reference(reference: Tensor | None) -> Tensor:
    """The reference losses. Errors: SamplewiseError where one is not finite; on a device, which is not waited for, all
    of its step's are looked at by the engine (`check_reference`).
    """
    assert reference is not None, "asked for by `needs_reference`"
    if is_on_host(reference):
        check_reference(int((~np.isfinite(host(reference))).sum()))
    return reference


def check_reference(bad: int) -> None:
    """Errors: SamplewiseError where that many of a reference model's token losses are not finite."""
    if bad:
        raise SamplewiseError(
            "reference", expected="finite token losses", got=f"{bad} that are not",
            remedy="Compute the reference model in a wider dtype.",
        )  # fmt: skip


def _checked(keep: float, scope: Scope) -> float:
    _check_scope(scope)
    return check_share("keep", keep, one=True)


def _check_scope(scope: object) -> None:
    if scope not in get_args(Scope):
        raise SamplewiseError(
            "scope",
            expected='"sample" or "step"',
            got=repr(scope),
            remedy='Use "sample" for one pass, "step" to rank over the whole step.',
        )


def _highest(values: Tensor, sample: Tensor, keep: float, scope: Scope) -> Tensor:
    """[P] bool: the `keep` share of the highest values within each sample, or of all."""
    owner = sample if scope == "sample" else torch.zeros_like(sample)
    return values >= _at_rank(values, owner, lambda n: max(1, share_of(keep, n)) - 1)


def _at_rank(values: Tensor, owner: Tensor, rank: Callable[[int], int]) -> Tensor:
    """[P] for each token the value at a rank of its owner's n, from the highest down; rank: n -> 0..n-1."""
    order = values.argsort(descending=True, stable=True)
    order = order[owner[order].argsort(stable=True)]  # by owner, and within one by value
    runs = owner[order]
    start, stop = torch.searchsorted(runs, owner), torch.searchsorted(runs, owner, right=True)
    ranks = np.array([0, *(rank(n) for n in range(1, len(owner) + 1))])  # of every count: none is read
    return values[order[start + on_device(ranks, values.device)[stop - start]]]

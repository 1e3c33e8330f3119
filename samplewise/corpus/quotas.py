"""Quotas of the parts of a budget, as the command line has them: shares, minima and maxima, n^alpha."""

from __future__ import annotations

import math
from dataclasses import dataclass, field

from samplewise.core.errors import SamplewiseError
from samplewise.core.typed import shown
from samplewise.corpus.amounts import amount

MAX_ALPHA = 4
OTHERS = "*"
"""The name that stands for all parts that are not named."""


@dataclass(frozen=True)
class Bound:
    """A number of tokens, or a share of the budget."""

    tokens: int | None = None
    share: float | None = None

    def of(self, budget: float) -> float:
        """The bound of a budget, in tokens."""
        return float(self.tokens) if self.tokens is not None else float(self.share or 0) * budget


@dataclass(frozen=True)
class Quotas:
    """shares: of the budget by part, which sum to 1, or None: then parts share in proportion to (their tokens)^alpha.

    minimum, maximum: by part, `*` for all that are not named. reweight: samples get weights in these proportions, and
    none is left out.
    """

    shares: dict[str, float] | None = None
    minimum: dict[str, Bound] = field(default_factory=dict)
    maximum: dict[str, Bound] = field(default_factory=dict)
    alpha: float = 1.0
    reweight: bool = False


def quotas_of(
    shares: str | None, minimum: str | None, maximum: str | None, *, alpha: float | None, reweight: bool
) -> Quotas | None:  # fmt: skip
    """The quotas of the command line; None where there are none. Raises SamplewiseError on texts that mean none."""
    if shares is not None and (minimum or maximum or alpha is not None):
        raise SamplewiseError(
            "--shares", expected="shares alone", got="--min, --max or --alpha as well",
            remedy="Shares say how much each part gets: leave out the others.",
        )  # fmt: skip
    if alpha is not None and not abs(alpha) <= MAX_ALPHA:
        raise SamplewiseError(
            "--alpha", expected=f"a number from -{MAX_ALPHA} to {MAX_ALPHA}", got=alpha,
            remedy="1 keeps the proportions, 0 gives each part as much.",
        )  # fmt: skip
    if not (shares or minimum or maximum or reweight) and alpha is None:
        return None
    return Quotas(
        None if shares is None else shares_of(shares), bounds_of(minimum, "--min"), bounds_of(maximum, "--max"),
        1.0 if alpha is None else alpha, reweight,
    )  # fmt: skip


def check_parts(quotas: Quotas | None, *, per: str | None, within: str | None, tokens: str | None) -> None:
    """Raises SamplewiseError for quotas without parts, parts without a budget, and quotas that say nothing."""
    if quotas is not None and per is None and within is None:
        raise SamplewiseError(
            "--per", expected="the field or column whose values share the budget", got="none",
            remedy="Name it, for example --per domain.",
        )  # fmt: skip
    if per is not None and quotas is None and tokens is None:
        raise SamplewiseError(
            "--per", expected="--tokens, --shares, --min or --max", got="none of them",
            remedy="Say what is divided, for example --tokens 2B.",
        )  # fmt: skip
    bound = quotas and (quotas.shares or quotas.minimum or quotas.maximum)
    if quotas is not None and not bound and (tokens is None or quotas.reweight) and quotas.alpha == 1:
        raise SamplewiseError(
            "--reweight" if quotas.reweight else "--alpha", got="proportions as they are",
            expected="--tokens, --shares, --min, --max or another --alpha",
            remedy="Say which proportions the parts are to have.",
        )  # fmt: skip


def shares_of(text: str) -> dict[str, float]:
    """What `--shares` means. Raises SamplewiseError where the shares do not sum to 1.

    >>> shares_of("web=.6,code=.3,math=10%")
    {'web': 0.6, 'code': 0.3, 'math': 0.1}
    """
    found = {name: _share(value, "--shares", name) for name, value in _pairs(text, "--shares").items()}
    total = math.fsum(found.values())
    if abs(total - 1) > 1e-6:
        raise SamplewiseError(
            "--shares", expected="shares that sum to 1", got=f"{total:g} in all",
            remedy=f"Change one of them, or give the rest of the parts what is left with {OTHERS}=SHARE.",
        )  # fmt: skip
    return found


def bounds_of(text: str | None, option: str) -> dict[str, Bound]:
    """What `--min` or `--max` means: tokens, or a percentage of the budget.

    >>> bounds_of("web=100M,*=5%", "--max")
    {'web': Bound(tokens=100000000, share=None), '*': Bound(tokens=None, share=0.05)}
    """
    found = {} if text is None else _pairs(text, option)
    return {
        name: Bound(share=_share(value, option, name)) if "%" in value else Bound(amount(value, f"{option} {name}"))
        for name, value in found.items()
    }


def _pairs(text: str, option: str) -> dict[str, str]:
    pairs = [part.rpartition("=") for part in text.split(",") if part.strip()]
    names = [name.strip() for name, _, _ in pairs]
    if not pairs or not all(names) or len(set(names)) < len(names):
        example = "web=.6,code=.4" if option == "--shares" else "web=100M,code=10%"
        raise SamplewiseError(
            option, expected=f"each part once with its value, such as {example}", got=shown(text),
            remedy="Write NAME=VALUE, with commas between.",
        )  # fmt: skip
    return {name: value.strip() for name, (_, _, value) in zip(names, pairs, strict=True)}


def _share(value: str, option: str, name: str) -> float:
    try:
        found = float(value.removesuffix("%")) / (100 if value.endswith("%") else 1)
    except ValueError:
        found = math.nan
    if not 0 <= found <= 1:
        raise SamplewiseError(
            f"{option} {name}", expected="a share from 0 to 1, or a percentage", got=shown(value),
            remedy="Correct the value.",
        )  # fmt: skip
    return found

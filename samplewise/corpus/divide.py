"""How a budget of tokens is divided over parts: by shares, in proportion to n^alpha, between minima and maxima."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping

from samplewise.core.errors import SamplewiseError, nearest
from samplewise.corpus.quotas import OTHERS, Bound, Quotas


def divided(
    quotas: Quotas, there: Mapping[str, float], budget: int | None, *, whole: bool = True
) -> dict[str, float]:  # fmt: skip
    """The tokens of each part. there: what it has. budget: None for the most that the quotas allow.

    Part g gets w·n_g^alpha between its minimum and the lesser of its maximum and n_g, with one w for all, so that they
    sum to the budget (a water level). With shares it gets its share. whole: whether a part can give no more than it
    has, and whole tokens only, by largest remainders; with weights it can.
    Errors: SamplewiseError for names that are no part, parts without a share, and bounds or shares that cannot be met.
    """
    _check_names(quotas, there)
    if quotas.shares is not None:
        return _by_shares(quotas.shares, there, budget, whole)
    most = sum(there.values()) if budget is None else budget
    low = {name: _bound(quotas.minimum, name, most, 0.0) for name in there}
    high = {name: _bound(quotas.maximum, name, most, math.inf) for name in there}
    if whole:
        high = {name: min(high[name], there[name]) for name in there}
    _check_bounds(low, high, there, most)
    top = max(there.values(), default=0.0)
    weights = {name: (n / top) ** quotas.alpha if n > 0 else 0.0 for name, n in there.items()}
    found = _level(weights, low, high, most)
    return _rounded(found, min(most, sum(high.values())), high) if whole else found


def _check_names(quotas: Quotas, there: Iterable[str]) -> None:
    known = list(there)
    for option, values in (("--shares", quotas.shares or {}), ("--min", quotas.minimum), ("--max", quotas.maximum)):
        for name in values:
            if name != OTHERS and name not in known:
                few = ", ".join(known[:10]) + (", …" if len(known) > 10 else "")
                near = nearest(name, known) if len(known) <= 10 or nearest(name, known).startswith("Did") else ""
                raise SamplewiseError(
                    f"{option} {name}", expected=f"one of the parts ({few})", got="a part that does not exist",
                    remedy=near or "Correct the name.",
                )  # fmt: skip


def _by_shares(
    given: Mapping[str, float], there: Mapping[str, float], budget: int | None, whole: bool
) -> dict[str, float]:  # fmt: skip
    shares = _every_share(given, there)
    empty = [name for name, share in shares.items() if share > 0 and there[name] <= 0]
    wanted = {name: share for name, share in shares.items() if share > 0}
    most = min((there[name] / share for name, share in wanted.items()), default=0.0) if whole else sum(there.values())
    if empty or (budget is not None and whole and budget > most):
        name = empty[0] if empty else min(wanted, key=lambda each: there[each] / wanted[each])
        total = f" of {budget:,}" if budget is not None else ""
        raise SamplewiseError(
            f"--shares {name}={shares[name]:g}", expected=f"as many tokens in {name} as that share{total} takes",
            got=f"{there[name]:,.0f}",
            remedy=f"Lower its share{'' if empty else f', give at most --tokens {int(most)}'}, or use --reweight.",
        )  # fmt: skip
    total = int(most) if budget is None else budget
    found = {name: share * total for name, share in shares.items()}
    return _rounded(found, total, there) if whole else found


def _every_share(given: Mapping[str, float], there: Mapping[str, float]) -> dict[str, float]:
    """With the share of `*` divided over all others in proportion to their tokens."""
    others = {name: n for name, n in there.items() if name not in given}
    if others and OTHERS not in given:
        few = ", ".join(list(others)[:5]) + (", …" if len(others) > 5 else "")
        raise SamplewiseError(
            "--shares", expected="a share for every part", got=f"none for {few}",
            remedy=f"Name them, or add {OTHERS}=0 to leave out the others.",
        )  # fmt: skip
    rest, left = sum(others.values()), given.get(OTHERS, 0.0)
    if left > 0 and not rest:
        raise SamplewiseError(
            f"--shares {OTHERS}={left:g}", expected="other parts than those named", got="none",
            remedy="Give that share to one of the parts.",
        )  # fmt: skip
    return {name: given[name] if name in given else left * n / rest if rest else 0.0 for name, n in there.items()}


def _bound(bounds: Mapping[str, Bound], name: str, budget: float, default: float) -> float:
    found = bounds.get(name, bounds.get(OTHERS))
    return default if found is None else found.of(budget)


def _check_bounds(
    low: Mapping[str, float], high: Mapping[str, float], there: Mapping[str, float], budget: float
) -> None:  # fmt: skip
    for name in low:
        if low[name] > high[name]:
            got = f"{there[name]:,.0f}" if high[name] == there[name] else f"--max {high[name]:,.0f}"
            raise SamplewiseError(
                f"--min {name}", expected=f"at least {low[name]:,.0f} tokens to be had in {name}", got=got,
                remedy="Lower the minimum.",
            )  # fmt: skip
    if sum(low.values()) > budget:
        raise SamplewiseError(
            "--min", expected=f"minima of at most --tokens, {budget:,.0f}", got=f"{sum(low.values()):,.0f} in all",
            remedy="Lower them, or raise --tokens.",
        )  # fmt: skip


def _level(
    weights: Mapping[str, float], low: Mapping[str, float], high: Mapping[str, float], budget: float
) -> dict[str, float]:  # fmt: skip
    """w·weight between low and high, for the w at which they sum to the budget, or to all of `high` below it."""

    def at(level: float) -> dict[str, float]:
        return {name: min(max(level * weights[name], low[name]), high[name]) for name in weights}

    below, above = 0.0, 1.0
    while sum(at(above).values()) < budget and above < 1e300:
        above *= 2
    for _ in range(200):
        middle = (below + above) / 2
        below, above = (middle, above) if sum(at(middle).values()) < budget else (below, middle)
    return at(above)


def _rounded(amounts: Mapping[str, float], total: float, high: Mapping[str, float]) -> dict[str, float]:
    """Whole numbers that sum to the total, none above `high`, each within one of its amount."""
    found: dict[str, float] = {name: math.floor(value + 1e-6) for name, value in amounts.items()}
    left = int(total) - int(sum(found.values()))
    for name in sorted(amounts, key=lambda each: found[each] - amounts[each]):
        if left > 0 and found[name] + 1 <= high[name] and amounts[name] > 0:
            found[name] += 1
            left -= 1
    return found

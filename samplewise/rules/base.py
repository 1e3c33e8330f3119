"""What every rule is made of: presence, order, and randomness that no split of the step can change."""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING

from samplewise.core.calls import Call, knowing
from samplewise.core.errors import SamplewiseError
from samplewise.core.host import host, positions
from samplewise.core.rule import Norm, Rule, State
from samplewise.core.samples import Samples

if TYPE_CHECKING:
    import torch
    from torch import Tensor
else:
    from samplewise.core.lazy import torch


def stateless() -> State:
    """The state of a rule without memory: an empty dict."""
    return {}


def unchanged(samples: Samples, weights: Tensor, state: State) -> State:
    """The same state after a step as before it."""
    return state


def always(state: State) -> bool:
    """True for every state: a factor that can be used from the first step on."""
    return True


def enough(weights: Tensor, samples: Samples, state: State) -> SamplewiseError | None:
    """None: no number of samples is too small for the rule."""
    return None


def make_rule(
    expression: str,
    body: Callable[[Tensor, Samples, State], Tensor],
    *,
    init: Callable[[], State] = stateless,
    update: Callable[[Samples, Tensor, State], State] = unchanged,
    factor: Callable[[Samples, State], Tensor] | None = None,
    factor_ready: Callable[[State], bool] = always,
    needs_loss: bool = True,
    required_fields: frozenset[str] = frozenset(),
    welcome_fields: frozenset[str] = frozenset(),
    norm: Norm = "sum",
    shortfall: Callable[[Tensor, Samples, State], SamplewiseError | None] = enough,
    remembers: bool | None = None,
    multiplies: bool = False,
    absolute: bool = False,
) -> Rule:
    """A rule whose `body` sees present samples only: a sample that enters with weight 0 does not exist for it.

    So counts, shares, ranks and extrema are over samples of positive weight, no rule revives one, and
    `chain(select, rule)` on N samples equals `rule` on the kept subset, whatever the body does. A weight below 0, which
    the data may give where that is allowed, is an error for a rule that does not say that it `multiplies`.
    The arguments are fields of `Rule`. remembers: None for every rule that has a state.
    Such a rule can be pickled if its functions can, or if a function at the top level of a module, marked with
    `samplewise.core.calls.called`, makes it.
    """

    def apply(weights: Tensor, samples: Samples, state: State) -> Tensor:
        with torch.no_grad():
            if host(weights > 0).all():
                return body(weights, samples, state)
            out, index = torch.zeros_like(weights), present(weights)
            if len(index):
                out[index] = body(weights[index], samples.select(index), state)
            return out

    def update_present(samples: Samples, weights: Tensor, state: State) -> State:
        with torch.no_grad():
            if len(weights) and host(weights > 0).all():
                return update(samples, weights, state)
            index = present(weights)
            return update(samples.select(index), weights[index], state) if len(index) else state

    def short(weights: Tensor, samples: Samples, state: State) -> SamplewiseError | None:
        with torch.no_grad():
            index = present(weights)
            return shortfall(weights[index], samples.select(index), state) if len(index) else None

    present = partial(_present, expression=expression, multiplies=multiplies)
    made = Rule(
        expression=expression, init=init, apply=apply, update=update_present, factor=factor, factor_ready=factor_ready,
        needs_loss=needs_loss, required_fields=required_fields, welcome_fields=welcome_fields, norm=norm,
        shortfall=enough if shortfall is enough else short,
        remembers=init is not stateless if remembers is None else remembers, multiplies=multiplies, absolute=absolute,
    )  # fmt: skip
    options = {"init": init, "update": update, "factor": factor, "factor_ready": factor_ready, "shortfall": shortfall}
    more = {"needs_loss": needs_loss, "required_fields": required_fields, "norm": norm, "remembers": remembers}
    more |= {"welcome_fields": welcome_fields, "multiplies": multiplies, "absolute": absolute}
    return knowing(made, Call(make_rule, (expression, body), tuple((options | more).items())))


def _present(weights: Tensor, *, expression: str, multiplies: bool) -> Tensor:
    """[K] positions of the samples that exist for a rule. Errors: SamplewiseError on weights that it cannot see."""
    if not multiplies and host(weights < 0).any():
        raise refuses_negative(expression)
    return positions(weights != 0)


def refuses_negative(rule: object) -> SamplewiseError:
    """The error of a rule that reads more of a weight than its own sample's, where weights may be below 0."""
    return SamplewiseError(
        "allow_negative", expected="column_weights(), and rules that multiply each weight by a factor of its sample "
        "alone: uniform(), ir_dro(r=…), focal(…), threshold(…)", got=f"{rule}",
        remedy="Leave that rule out, or give weights of at least 0.",
    )  # fmt: skip


def under(prefix: object, state: State) -> State:
    """A rule's state within that of the rule that holds it: every key after "prefix."."""
    return {f"{prefix}.{key}": value for key, value in state.items()}


def within(state: State, prefix: object) -> State:
    """The state that `under` put away."""
    start = f"{prefix}."
    return {key[len(start) :]: value for key, value in state.items() if key.startswith(start)}


def counting(state: State) -> State:
    """The same state one step later, for rules whose only memory is the number of the step."""
    return {**state, "step": int(state["step"]) + 1}


def descending(samples: Samples) -> Tensor:
    """[N] positions from the highest loss to the lowest; ties go to the smaller id first."""
    return samples.descending


def share_of(share: float, n: int) -> int:
    """⌊share·n⌋, with 1e-9 of slack so that 0.29 of 100 is 29 in floating point too."""
    return math.floor(share * n + 1e-9)


def min_samples(share: float) -> int:
    """The smallest number of samples of which `share` is at least one."""
    return math.ceil(1 / share - 1e-9)


def keep(weights: Tensor, index: Tensor) -> Tensor:
    """The weights at `index` as they were, zero elsewhere."""
    out = torch.zeros_like(weights)
    out[index] = weights[index]
    return out


def check_number(name: str, value: object, low: float, expected: str, remedy: str, *, above: bool = False) -> float:
    """`value` as a finite float of at least `low` (`above`: more than it)."""
    try:
        number = float(value) if isinstance(value, (int, float)) and not isinstance(value, bool) else math.nan
    except OverflowError:  # an int beyond fp64
        number = math.inf
    if not (low < number < math.inf if above else low <= number < math.inf):
        shown = repr(value)
        raise SamplewiseError(
            name, expected=expected, got=shown if len(shown) < 50 else f"{shown[:40]}…", remedy=remedy
        )
    return number


def check_rule(name: str, rule: object) -> None:
    """Errors: SamplewiseError where `rule` is not a Rule."""
    if not isinstance(rule, Rule):
        raise SamplewiseError(
            name, expected="a Rule", got=repr(rule), remedy='For example ir_dro(r=1.0), or parse_rule("ir_dro(r=1.0)").'
        )


def check_seed(seed: object) -> int:
    """The seed as an int. Errors: SamplewiseError unless it is a whole number."""
    if isinstance(seed, bool) or not isinstance(seed, int):
        raise SamplewiseError("seed", expected="a whole number", got=repr(seed), remedy="For example seed=0.")
    return seed


def check_share(name: str, share: object, *, zero: bool = False, one: bool = False) -> float:
    """`share` as a float within (0, 1), the ends included where named."""
    number = share if isinstance(share, (int, float)) and not isinstance(share, bool) else math.nan
    if not (0 < number < 1 or (zero and number == 0) or (one and number == 1)):
        interval = f"{'[' if zero else '('}0, 1{']' if one else ')'}"
        raise SamplewiseError(
            name, expected=f"a share in {interval}", got=repr(share)[:50], remedy="Give a fraction: for one half, 0.5."
        )
    return float(number)


def check_shares(drop_top: object, drop_bottom: object) -> tuple[float, float]:
    """The shares to leave out at both ends. Errors: SamplewiseError unless each is in [0, 1), and they leave a rest."""
    top, bottom = check_share("drop_top", drop_top, zero=True), check_share("drop_bottom", drop_bottom, zero=True)
    if top + bottom >= 1:
        raise SamplewiseError(
            "drop_top, drop_bottom", expected="shares that sum to less than 1", got=f"{top} and {bottom}",
            remedy="Lower one of them, so that samples are left to train on.",
        )  # fmt: skip
    return top, bottom


def uniforms(ids: Tensor, step: int, seed: int) -> Tensor:
    """[N] float64 in [0, 1), a pure function of (seed, step, id): `random_bits` as a share of 2⁵³."""
    return random_bits(ids, step, seed).to(torch.float64) * 2.0**-53


def random_bits(ids: Tensor, step: int, seed: int) -> Tensor:
    """[N] int64 in [0, 2⁵³), on any device: SplitMix64 (Steele et al., 2014) of seed, step and id.

    int64 arithmetic wraps around as the algorithm wants; only the right shift needs its sign bits cleared.
    """
    key = ids.to(torch.int64)
    for salt in (seed, step):
        key = _mix(key ^ _mix(torch.full_like(key, _int64(0x9E3779B97F4A7C15 * (salt + 1)))))
    return _shift_right(key, 11)


def _int64(value: int) -> int:
    value &= (1 << 64) - 1
    return value - (1 << 64) if value >> 63 else value


def _shift_right(x: Tensor, bits: int) -> Tensor:
    return (x >> bits) & ((1 << (64 - bits)) - 1)


def _mix(x: Tensor) -> Tensor:
    x = (x ^ _shift_right(x, 30)) * _int64(0xBF58476D1CE4E5B9)
    x = (x ^ _shift_right(x, 27)) * _int64(0x94D049BB133111EB)
    return x ^ _shift_right(x, 31)

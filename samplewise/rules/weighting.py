"""Rules that weigh every sample by an exponential of its loss: none leaves one out."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from samplewise.core.calls import called
from samplewise.core.errors import SamplewiseError
from samplewise.core.host import host, wide
from samplewise.core.rule import Rule, State
from samplewise.core.samples import Samples
from samplewise.rules.base import check_number, check_share, make_rule
from samplewise.rules.schedules import Number, schedulable
from samplewise.rules.temperature import Distance, solve_temperature

if TYPE_CHECKING:
    import numpy as np
    import torch
    from torch import Tensor
else:
    from samplewise.core.lazy import numpy as np
    from samplewise.core.lazy import torch

MAX_EXPONENT = 40.0
"""Nats over r: a tilt whose largest exponent lies beyond starts anew."""


@called
def uniform() -> Rule:
    """Every sample alike: the baseline, and the identity of `chain`.

    >>> import samplewise as sw
    >>> sw.weights(sw.uniform(), [1.0, 2.0, 3.0]).tolist()
    [1.0, 1.0, 1.0]
    """
    rule = make_rule(
        "uniform()",
        lambda weights, samples, state: weights,
        factor=lambda samples, state: torch.ones_like(samples.loss),
        needs_loss=False,
        norm="count",  # and the sum: the same here, so that a chain keeps its norm
        multiplies=True,
        absolute=True,
    )
    return rule.ranking(())


@called
def column_weights() -> Rule:
    """The data's own weights, from its column `sample_weight`; a sample of weight 0 is left out.

    `chain(column_weights(), ir_dro(r=1.0))` multiplies them with a rule. Reads the field `weight` of the samples:
    finite numbers of at least 0, in any unit. Pointwise, and no loss is needed. Trainers and loops read numbers below 0
    too where they are told to (`allow_negative`): such a sample's loss is raised.

    >>> import samplewise as sw
    >>> sw.weights(sw.column_weights(), [1.0, 2.0, 3.0, 4.0], weight=[1.0, 0.5, 0.5, 0.0]).tolist()
    [2.0, 1.0, 1.0, 0.0]
    """

    def given(samples: Samples) -> Tensor:
        assert samples.weight is not None, "asked for by `required_fields`"
        return samples.weight.to(samples.loss)

    return make_rule(
        "column_weights()",
        lambda weights, samples, state: weights * given(samples),
        factor=lambda samples, state: given(samples),
        needs_loss=False,
        required_fields=frozenset({"weight"}),
        multiplies=True,
        absolute=True,
    )


@schedulable
def ir_dro(
    r: Number | None = None,
    *,
    kl: Number | None = None,
    ess: Number | None = None,
    lagged: bool = False,
    ema: Number | None = None,
) -> Rule:
    """Instance-reweighted DRO: weights in proportion to exp(loss / r).

    r: temperature in nats, not 0; 1 if nothing is given. Large r is uniform, small r the single hardest sample. Below
        0 the tilt is turned round: the easy weigh most, and small −r is the single easiest sample.
    kl: instead of r, the divergence KL(p ‖ uniform) to reach in every step, in nats, above 0 (log N is one sample).
    ess: instead of r, the effective sample size to reach in every step, as a share of N, in (0, 1).
    ema: with r, divide by a running mean of exp(loss / r) instead of the step's own, of which it is the share in (0, 1)
        that a step leaves as it was: for steps of few samples, whose own mean is noisy. Weights are then 1 on average
        and not in every step (norm "count"), so that steps of high losses count more.
    lagged: with kl or ess, use the r that the step before would have needed: pointwise, so that one pass is enough.

    kl and ess are over the samples present, and measured from the weights on entry where those are not equal. Where
    no r reaches the target (ties at the top, a short step) the maxima alone share the weight, and
    state["unattained"] counts the step. state["r"] is what the last step needed, 0 for the maxima alone; a lagged r
    stays what it was there.
    Source: "Take the Bull by the Horns" (arXiv 2402.14270): argmax_p Σ p_i L_i − r·KL(p ‖ uniform). The gradient
    of Σ p_i L_i at fixed p is that of r·log mean exp(L / r), the tilted loss of TERM (arXiv 2007.01162), t = 1/r; ema
    is the normalizer of its stochastic algorithm, taken from past steps alone.
    Pointwise with r or lagged, once a step has been seen: the shift of the exponent is then that step's
    r·log mean exp(L / r), one number for all samples, which keeps factors near 1 (also where r follows a schedule).
    A step with too few samples for kl or ess, whatever their losses, is counted as one without effect.
    Errors: SamplewiseError if a number is out of range, if more than one of r, kl, ess is given, lagged with r, or ema
    with kl or ess.

    >>> import samplewise as sw
    >>> [round(w, 3) for w in sw.weights(sw.ir_dro(r=1.0), [1.0, 2.0, 3.0, 4.0]).tolist()]
    [0.128, 0.349, 0.948, 2.576]
    >>> [round(w, 3) for w in sw.weights(sw.ir_dro(ess=0.5), [1.0, 2.0, 3.0, 4.0]).tolist()]
    [0.11, 0.318, 0.918, 2.654]
    """
    given = {name: value for name, value in (("r", r), ("kl", kl), ("ess", ess)) if value is not None}
    if len(given) > 1:
        raise SamplewiseError(
            ", ".join(given), expected="one of r, kl and ess", got=f"{len(given)} of them", remedy="Leave one out."
        )
    if not isinstance(lagged, bool) or (lagged and kl is None and ess is None):
        raise SamplewiseError(
            "lagged", expected="True or False, and True only with kl or ess", got=repr(lagged),
            remedy="Leave lagged out: a given r is known before the step.",
        )  # fmt: skip
    if ema is not None and (kl is not None or ess is not None):
        raise SamplewiseError(
            "ema",
            expected="None with kl or ess",
            got=repr(ema),
            remedy="Leave it out, or give r in place of kl and ess.",
        )
    if kl is not None:
        target = check_number(
            "kl", kl, 0, "a divergence above 0, in nats", "For weights that are all equal, use uniform().", above=True
        )
        return _solved("kl", target, lagged)
    if ess is not None:
        return _solved("ess", check_share("ess", ess), lagged)
    number = _temperature(1.0 if r is None else r)
    return _tilted(number) if ema is None else _averaged(number, check_share("ema", ema))


def _temperature(r: object) -> float:
    wanted, hint = "a finite temperature other than 0, in nats", "For weights that are all equal, use uniform()."
    number = check_number("r", r, -math.inf, wanted, hint, above=True)
    if number == 0:
        raise SamplewiseError("r", expected=wanted, got=repr(r), remedy="To keep only the hardest samples, use top_k.")
    return number


def _tilted(r: float) -> Rule:
    """The tilt of a given r."""
    return make_rule(
        f"ir_dro(r={r})",
        lambda weights, samples, state: weights * _exponential(samples.loss, r),
        init=lambda: {"shift": math.nan},
        update=lambda samples, weights, state: {"shift": _shift(samples.loss, r)},
        factor=lambda samples, state: torch.exp((samples.loss - float(state["shift"])) / r),
        factor_ready=lambda state: not math.isnan(float(state["shift"])),
        remembers=False,  # the shift is common to all: no weight depends on it
        multiplies=True,
    )


def _averaged(r: float, past: float) -> Rule:
    """The tilt of a given r over a running mean of exp(loss / r), which is exp(shift / r)."""

    def exponent(loss: Tensor, state: State) -> Tensor:
        return (loss - float(state["shift"])) / r

    def body(weights: Tensor, samples: Samples, state: State) -> Tensor:
        power = exponent(samples.loss, state)
        if (
            not -MAX_EXPONENT <= host(power).max() <= MAX_EXPONENT
        ):  # no mean yet, or one of other losses altogether: its own
            power = exponent(samples.loss, {"shift": _shift(samples.loss, r)})
        return weights * torch.exp(power)

    def update(samples: Samples, weights: Tensor, state: State) -> State:
        new, old = _shift(samples.loss, r), float(state["shift"])
        if math.isnan(old):
            return {"shift": new}
        return {"shift": r * float(np.logaddexp(math.log(past) + old / r, math.log(1 - past) + new / r))}

    return make_rule(
        f"ir_dro(r={r}, ema={past})",
        body,
        init=lambda: {"shift": math.nan},
        update=update,
        factor=lambda samples, state: torch.exp(exponent(samples.loss, state)),
        factor_ready=lambda state: not math.isnan(float(state["shift"])),
        norm="count",
    )


def _solved(kind: Distance, target: float, lagged: bool) -> Rule:
    """The tilt whose r is solved for: in each step, or from the step before."""

    def body(weights: Tensor, samples: Samples, state: State) -> Tensor:
        r = float(state["r"]) if lagged else 0.0
        if r == 0:
            r, _ = solve_temperature(kind, target, weights, samples)
        return weights * _exponential(samples.loss, r)

    def update(samples: Samples, weights: Tensor, state: State) -> State:
        r, reached = solve_temperature(kind, target, weights, samples)
        new = {"unattained": int(state["unattained"]) + (not reached)}
        if not lagged:
            return {**new, "r": r}
        r = r or float(state["r"])  # the maxima alone are no pointwise weights
        return {**new, "r": r, "shift": _shift(samples.loss, r) if r > 0 else 0.0}

    def factor(samples: Samples, state: State) -> Tensor:
        return torch.exp((samples.loss - float(state["shift"])) / float(state["r"]))

    return make_rule(
        f"ir_dro({kind}={target}{', lagged=True' if lagged else ''})",
        body,
        init=lambda: {"r": 0.0, "unattained": 0} | ({"shift": 0.0} if lagged else {}),
        update=update,
        factor=factor if lagged else None,
        factor_ready=lambda state: float(state["r"]) > 0,
        shortfall=lambda weights, samples, state: _beyond_reach(kind, target, weights),
        remembers=lagged,
    )


def _beyond_reach(kind: Distance, target: float, weights: Tensor) -> SamplewiseError | None:
    """The error where not even a single sample is as far as that, whatever the losses."""
    goal = target if kind == "kl" else -math.log(target)
    shares = wide(weights)
    farthest = math.log(float(shares.sum() / shares.min()))
    if goal <= farthest + 1e-9:
        return None
    fewest = math.ceil(math.exp(min(goal, 700)) - 1e-9)
    return SamplewiseError(
        kind, expected=f"a step of at least {fewest} samples for {kind}={target}", got=f"{len(weights)} samples",
        remedy=f"{'Lower kl' if kind == 'kl' else 'Raise ess'}, or raise the batch size or the accumulation.",
    )  # fmt: skip


def _exponential(loss: Tensor, r: float) -> Tensor:
    """[N] exp(loss / r), scaled to a largest value of 1; r = 0 is its limit from above."""
    extreme = loss.min() if r < 0 else loss.max()
    return torch.exp((loss - extreme) / r) if r != 0 else (loss == extreme).to(loss)


def _shift(loss: Tensor, r: float) -> float:
    """r·log mean exp(loss / r), taken from the extreme so that no r is too small for it."""
    every = wide(loss)
    extreme = float(every.min() if r < 0 else every.max())
    with np.errstate(over="ignore"):  # a loss far below is −inf, whose exponential is 0
        total = np.exp((every - extreme) / r).sum()
    return extreme + r * (math.log(total) - math.log(len(every)))

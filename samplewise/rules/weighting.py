"""Rules that weigh every sample: none leaves one out."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from samplewise.rules.base import check_number, make_rule
from samplewise.types import Rule, Samples, State


def uniform() -> Rule:
    """Every sample alike: the baseline, and the identity of `chain`.

    >>> import samplewise as sw
    >>> sw.weights(sw.uniform(), [1.0, 2.0, 3.0]).tolist()
    [1.0, 1.0, 1.0]
    """
    return make_rule(
        "uniform()",
        lambda weights, samples, state: weights,
        factor=lambda samples, state: torch.ones_like(samples.loss),
        needs_loss=False,
    )


def ir_dro(r: float = 1.0) -> Rule:
    """Instance-reweighted DRO: weights in proportion to exp(loss / r).

    r: temperature in nats, above 0. Large r is uniform, small r the single hardest sample.
    Source: "Take the Bull by the Horns" (arXiv 2402.14270): argmax_p Σ p_i L_i − r·KL(p ‖ uniform). The gradient
    of Σ p_i L_i at fixed p is that of r·log mean exp(L / r), the tilted loss of TERM (arXiv 2007.01162), t = 1/r.
    Pointwise once a step has been seen: the shift of the exponent is then the last step's r·log mean exp(L / r),
    one number for all samples, which keeps factors near 1.
    Errors: SamplewiseError if r is not a finite number above 0.

    >>> import samplewise as sw
    >>> [round(w, 3) for w in sw.weights(sw.ir_dro(r=1.0), [1.0, 2.0, 3.0, 4.0]).tolist()]
    [0.128, 0.349, 0.948, 2.576]
    """
    r = check_number("r", r, 0, "a finite temperature above 0, in nats", "uniform() is r → ∞.", above=True)

    def body(weights: Tensor, samples: Samples, state: State) -> Tensor:
        return weights * torch.exp((samples.loss - samples.loss.max()) / r)

    def factor(samples: Samples, state: State) -> Tensor:
        return torch.exp((samples.loss - float(state["shift"])) / r)

    def update(samples: Samples, weights: Tensor, state: State) -> State:
        tilted = torch.logsumexp(samples.loss.double() / r, 0) - math.log(len(samples))
        return {"shift": r * float(tilted)}

    return make_rule(
        f"ir_dro(r={r})",
        body,
        init=lambda: {"shift": math.nan},
        update=update,
        factor=factor,
        ready=lambda state: not math.isnan(float(state["shift"])),
    )

"""Weights by how far a sample is from being certain."""

from __future__ import annotations

from typing import TYPE_CHECKING

from samplewise.core.rule import Rule, State
from samplewise.core.samples import Samples
from samplewise.rules.base import check_number, make_rule
from samplewise.rules.schedules import Number, schedulable

if TYPE_CHECKING:
    import torch
    from torch import Tensor
else:
    from samplewise.core.lazy import torch


@schedulable
def focal(gamma: Number = 2.0) -> Rule:
    """Samples that the model is nearly certain of fade out: w ∝ (1 − e^(−loss))^gamma.

    gamma: 0 or more; 0 is uniform. e^(−loss) is the geometric mean of the probabilities of the sample's tokens, so that
        losses of some nats, where it is near 0, all weigh alike: a bounded tilt, from below.
    Pointwise. Errors: SamplewiseError if gamma is below 0.
    Source: the focal loss (Lin et al., arXiv 1708.02002), its factor held constant, of samples in place of pixels.

    >>> import samplewise as sw
    >>> sw.weights(sw.focal(gamma=1.0), [0.1, 1.0, 4.0]).tolist()
    [0.1670..., 1.1096..., 1.7232...]
    """
    power = check_number("gamma", gamma, 0, "a finite number of at least 0", "gamma=2.0 is the paper's.")

    def uncertain(samples: Samples, state: State) -> Tensor:
        return (-torch.expm1(-samples.loss.clamp(min=0))) ** power

    return make_rule(
        f"focal(gamma={power})",
        lambda weights, samples, state: weights * uncertain(samples, state),
        factor=uncertain,
        multiplies=True,
        absolute=True,
    )

"""A rule of somebody's own: weights in proportion to a power of the loss."""

from samplewise import Rule, make_rule
from samplewise.rules.schedules import Number, schedulable


@schedulable
def steep(power: Number = 1.0) -> Rule:
    """Weights in proportion to loss^power. Pointwise."""
    return make_rule(
        f"steep(power={power})",
        lambda weights, samples, state: weights * samples.loss**power,
        factor=lambda samples, state: samples.loss**power,
    )

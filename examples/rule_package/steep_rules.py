"""A rule of somebody's own: weights in proportion to a power of the loss."""

from samplewise import Rule, make_rule
from samplewise.rules.base import check_number
from samplewise.rules.schedules import Number, schedulable


@schedulable
def steep(power: Number = 1.0) -> Rule:
    """Weights in proportion to loss^power. Pointwise."""
    exponent = check_number("power", power, 0, "a finite number of at least 0", "power=1.0 is proportional.")
    return make_rule(
        f"steep(power={exponent})",
        lambda weights, samples, state: weights * samples.loss**exponent,
        factor=lambda samples, state: samples.loss**exponent,
    )

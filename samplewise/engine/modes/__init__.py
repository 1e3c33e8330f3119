"""The ways to run a step, a file each, and which one a step takes."""

from samplewise.engine.modes.base import Mode, RetryInTwoPasses
from samplewise.engine.modes.micro import Micro, refuse_own_term
from samplewise.engine.modes.one_pass import OnePass
from samplewise.engine.modes.select import select_mode
from samplewise.engine.modes.stored import Stored
from samplewise.engine.modes.two_pass import TwoPass
from samplewise.engine.modes.without_scoring import WithoutScoring

__all__ = [
    "Micro",
    "Mode",
    "OnePass",
    "RetryInTwoPasses",
    "Stored",
    "TwoPass",
    "WithoutScoring",
    "refuse_own_term",
    "select_mode",
]

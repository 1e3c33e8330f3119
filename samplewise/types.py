"""The two types everything speaks of, and the one exception: samples in, weights out."""

from samplewise.errors import SamplewiseError
from samplewise.rule import ByEpoch, Epoch, Norm, Order, Ranks, Rule, State
from samplewise.samples import Samples, as_samples

__all__ = [
    "ByEpoch",
    "Epoch",
    "Norm",
    "Order",
    "Ranks",
    "Rule",
    "Samples",
    "SamplewiseError",
    "State",
    "as_samples",
]

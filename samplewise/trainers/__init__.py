"""Weights in the trainers people use, and in loops of their own. `WeightedStep` needs torch alone."""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from samplewise.trainers.hf import WeightedMixin, WeightedTrainer
    from samplewise.trainers.loop import WeightedStep

__all__ = ["WeightedMixin", "WeightedStep", "WeightedTrainer"]

_FOUND_IN = {
    "WeightedMixin": "samplewise.trainers.hf",
    "WeightedTrainer": "samplewise.trainers.hf",
    "WeightedStep": "samplewise.trainers.loop",
}


def __getattr__(name: str) -> Any:
    """Each trainer is imported when it is first asked for: a loop without transformers does not pay for it."""
    if name not in _FOUND_IN:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(_FOUND_IN[name]), name)

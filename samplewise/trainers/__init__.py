"""Weights in the trainers people use. Importing this needs the extra `hf`: pip install "samplewise[hf]"."""

from samplewise.trainers.hf import WeightedMixin, WeightedTrainer

__all__ = ["WeightedMixin", "WeightedTrainer"]

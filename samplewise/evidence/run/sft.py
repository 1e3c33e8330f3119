"""The trainer of a run on instructions. Needs the extra `trl`."""

from samplewise.evidence.run.trainer import HistoryMixin
from samplewise.trainers.trl import WeightedSFTTrainer


class RunSFTTrainer(HistoryMixin, WeightedSFTTrainer):
    """A `WeightedSFTTrainer` that records the history of its run."""

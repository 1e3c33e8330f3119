"""The trainer of an arm on instructions. Needs the extra `trl`."""

from samplewise.evidence.budget import BudgetMixin
from samplewise.evidence.run.sft import RunSFTTrainer


class BudgetSFTTrainer(BudgetMixin, RunSFTTrainer):
    """A `RunSFTTrainer` that stops when its budget is spent."""

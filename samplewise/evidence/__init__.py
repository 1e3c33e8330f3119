"""Whether it helped: held-out losses by document, and paired differences with their uncertainty."""

from samplewise.evidence.compare import Comparison, compare
from samplewise.evidence.crossed import Crossed, crossed, family_p, seeds_needed
from samplewise.evidence.evaluate import DocumentLoss, Evaluation, evaluate
from samplewise.evidence.holm import holm
from samplewise.evidence.student import t_quantile

__all__ = [
    "Comparison",
    "Crossed",
    "DocumentLoss",
    "Evaluation",
    "compare",
    "crossed",
    "evaluate",
    "family_p",
    "holm",
    "seeds_needed",
    "t_quantile",
]

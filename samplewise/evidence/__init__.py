"""Whether it helped: held-out losses by document, and paired differences with their uncertainty."""

from samplewise.evidence.compare import Comparison, compare, t_quantile
from samplewise.evidence.evaluate import DocumentLoss, Evaluation, evaluate

__all__ = ["Comparison", "DocumentLoss", "Evaluation", "compare", "evaluate", "t_quantile"]

"""Two evaluations of the same documents: the mean difference, its 95% interval, and one honest sentence."""

from __future__ import annotations

import math
from dataclasses import dataclass

from samplewise.core import notebook
from samplewise.core.errors import SamplewiseError
from samplewise.evidence.evaluate import Evaluation
from samplewise.evidence.student import t_quantile

COVERS = "one seed: the interval covers documents only"


@dataclass(frozen=True)
class Comparison:
    """difference: mean over documents of (this − other), nats/token; low, high: its 95% interval; documents: how many.

    Negative is better: a lower held-out loss.
    """

    difference: float
    low: float
    high: float
    documents: int

    @property
    def decided(self) -> bool:
        """Whether the interval excludes zero."""
        return not self.low <= 0.0 <= self.high

    def _repr_html_(self) -> str:
        """The difference with its interval, and whether it is decided."""
        span = f"{self.difference:+.4f} [{self.low:+.4f}, {self.high:+.4f}]"
        told = {"difference, nats/token": span, "documents": self.documents, "excludes zero": self.decided}
        return notebook.table(told, COVERS)

    def sentence(self, this: str, other: str) -> str:
        """What the interval allows to say, as one sentence."""
        span = f"{self.difference:+.4f} nats/token, 95% interval {self.low:+.4f} to {self.high:+.4f}"
        tail = f"({span}, {self.documents} documents; {COVERS})"
        if not self.decided:
            return f"No difference is shown between {this} and {other} {tail}."
        return f"{this} has a {'lower' if self.difference < 0 else 'higher'} held-out loss than {other} {tail}."


def compare(this: Evaluation, other: Evaluation) -> Comparison:
    """The paired difference `this` − `other` over documents, with a t interval.

    It holds for documents like these and for this one seed: another order of the data, or another start, would move
    both losses in ways that no number of documents shows.
    Errors: SamplewiseError if the documents are not the same, or fewer than 2.

    >>> from samplewise.evidence import DocumentLoss
    >>> def losses(*values):
    ...     return Evaluation(tuple(DocumentLoss(i, "a.txt", i, x, 10, 40) for i, x in enumerate(values)))
    >>> compare(losses(1.0, 2.0, 3.0), losses(1.5, 2.4, 3.6)).sentence("band", "uniform")
    'band has a lower held-out loss than uniform (-0.5000 nats/token, 95% interval -0.7484 to -0.2516, 3 documents; one
    seed: the interval covers documents only).'
    """
    names = [[(d.id, d.tokens) for d in each.documents] for each in (this, other)]
    if names[0] != names[1]:
        raise SamplewiseError(
            "documents", expected="the same in both, in the same order", got="others",
            remedy="Evaluate both models on the same windows.",
        )  # fmt: skip
    count = len(names[0])
    if count < 2:
        raise SamplewiseError("documents", expected="at least 2", got=count, remedy="Hold out more documents.")
    differences = this.losses - other.losses
    mean = float(differences.mean())
    margin = t_quantile(0.975, count - 1) * float(differences.std(ddof=1)) / math.sqrt(count)
    return Comparison(mean, mean - margin, mean + margin, count)

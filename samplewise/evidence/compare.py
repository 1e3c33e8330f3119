"""Two evaluations of the same documents: the mean difference, its 95% interval, and one honest sentence."""

from __future__ import annotations

import math
from dataclasses import dataclass

from samplewise.evidence.evaluate import Evaluation
from samplewise.types import SamplewiseError

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
        """Whether the interval leaves zero out."""
        return not self.low <= 0.0 <= self.high

    def sentence(self, this: str, other: str) -> str:
        """What may be said."""
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


def t_quantile(probability: float, degrees: int) -> float:
    """The quantile of Student's t for a whole number of degrees of freedom, by bisection on its finite series.

    Abramowitz and Stegun, 26.7.3 and 26.7.4; to about 1e-10, without scipy. probability: above 0.5 and below 1.

    >>> round(t_quantile(0.975, 10), 6)
    2.228139
    """
    low, high = 0.0, math.pi / 2  # of the angle atan(t / √degrees)
    for _ in range(100):
        angle = (low + high) / 2
        low, high = (angle, high) if _within(angle, degrees) < 2 * probability - 1 else (low, angle)
    return math.tan((low + high) / 2) * math.sqrt(degrees)


def _within(angle: float, degrees: int) -> float:
    """P(|T| < √degrees · tan(angle))."""
    odd = degrees % 2
    cosine = math.cos(angle)
    term, total = (cosine if odd else 1.0), 0.0
    for k in range((degrees - odd) // 2):
        total += term
        term *= cosine**2 * ((2 * k + 2) / (2 * k + 3) if odd else (2 * k + 1) / (2 * k + 2))
    total *= math.sin(angle)
    return 2 / math.pi * (angle + total) if odd else total

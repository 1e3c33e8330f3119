"""The interval of a mean difference over documents × seeds, which are crossed: every seed scores the same documents.

Two-way random effects without replication, difference x[s, d] = μ + seed + document + rest. Each factor's mean square
over S·D estimates the variance of the mean if only that factor varied; with both it is their sum less the rest, which
either counts once. The largest of the three is taken, so that a mean square that came out small by chance does not
shrink the interval. (A bootstrap over documents alone, or nested in seeds, covers far less than it says.)
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from samplewise.core.errors import SamplewiseError
from samplewise.evidence.student import t_quantile, t_tail

SEEDS = 3
"""The fewest seeds that show how seeds vary; with fewer, the interval is over documents alone."""


@dataclass(frozen=True)
class Components:
    """Variances of one difference x[s, d] (never below 0): between seeds, between documents, and the rest."""

    seed: float
    document: float
    rest: float


@dataclass(frozen=True)
class Crossed:
    """A mean difference: its 95% interval, degrees of freedom, two-sided p and the variances that it comes from.

    effect: the mean in standard deviations of one difference of one document under one seed.
    over_seeds: whether the interval covers other seeds too (from `SEEDS` on), or other documents only.
    """

    mean: float
    low: float
    high: float
    p: float
    degrees: int
    seeds: int
    documents: int
    effect: float
    components: Components
    over_seeds: bool


def crossed(differences: np.ndarray) -> Crossed:
    """The mean of `differences` [S, D] with its 95% interval.

    From three seeds on it covers other seeds and other documents; below, the mean over seeds is taken as the one
    difference of each document. Errors: SamplewiseError below 2 documents.

    >>> found = crossed(np.array([[1.0, 2.0, 3.0], [1.1, 2.0, 3.2], [0.9, 2.1, 2.9]]))
    >>> round(found.mean, 3), round(found.low, 3), round(found.high, 3), found.degrees
    (2.022, -0.505, 4.549, 2)
    """
    x = np.asarray(differences, np.float64)
    if x.ndim != 2 or x.shape[1] < 2 or x.shape[0] < 1:
        raise SamplewiseError(
            "differences", expected="[seeds, documents] with at least 2 documents", got=f"shape {x.shape}",
            remedy="Hold out more documents.",
        )  # fmt: skip
    over_seeds = len(x) >= SEEDS
    mean, variance, degrees = (float(v) for v in mean_and_variance(x if over_seeds else x.mean(0, keepdims=True)))
    margin = t_quantile(0.975, int(degrees)) * math.sqrt(variance)
    parts = components(x)
    spread = math.sqrt(parts.seed + parts.document + parts.rest)
    return Crossed(
        mean=mean, low=mean - margin, high=mean + margin, p=_two_sided(mean, variance, int(degrees)),
        degrees=int(degrees), seeds=x.shape[0], documents=x.shape[1],
        effect=mean / spread if spread > 0 else 0.0, components=parts, over_seeds=over_seeds,
    )  # fmt: skip


def family_p(family: Sequence[np.ndarray]) -> list[float]:
    """Two-sided p of each member [S, D] of a family of comparisons, to be corrected by `holm`.

    A seed's mean square below a quarter of the family's mean is raised to it. With 3 seeds it comes out near 0 for one
    arm in fifty by chance; at the small levels that Holm asks of a dozen arms such accidents would be declared
    differences (in 15% to 19% of simulated plans without any; with the floor in at most 6%).
    """
    if len(family) == 0 or len(family[0]) < SEEDS:
        return [crossed(x).p for x in family]
    floor = float(np.mean([mean_squares(x)[0] for x in family])) / 4
    found = [mean_and_variance(x, seed_floor=floor) for x in family]
    return [_two_sided(float(mean), float(variance), int(degrees)) for mean, variance, degrees in found]


def mean_and_variance(x: np.ndarray, *, seed_floor: float = 0.0) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """(mean, variance of the mean, degrees of freedom) of differences [..., S, D], each [...].

    Degrees are Satterthwaite's (1946) for the sum of mean squares, rounded down, and a factor's own where its mean
    square alone is taken. With S = 1 the variance is that of a mean over documents. seed_floor: the least MS_seed.
    """
    S, D = x.shape[-2:]
    seed, document, rest = mean_squares(x)
    seed = np.maximum(seed, seed_floor)
    if S == 1:
        return x.mean((-1, -2)), document / D, np.full(x.shape[:-2], D - 1)
    both = seed + document - rest
    largest = np.maximum(np.maximum(seed, document), both)
    with np.errstate(invalid="ignore", divide="ignore"):
        wide = both**2 / (seed**2 / (S - 1) + document**2 / (D - 1) + rest**2 / ((S - 1) * (D - 1)))
    one = np.where(seed >= document, S - 1, D - 1)
    degrees = np.where((both >= largest) & np.isfinite(wide), np.floor(wide + 1e-9), one)
    return x.mean((-1, -2)), largest / (S * D), np.maximum(1, degrees)


def mean_squares(x: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """(MS_seed, MS_doc, MS_rest) of [..., S, D]; those without a degree of freedom are 0."""
    S, D = x.shape[-2:]
    total = x.mean((-1, -2), keepdims=True)
    by_seed, by_document = x.mean(-1, keepdims=True) - total, x.mean(-2, keepdims=True) - total
    rest = x - total - by_seed - by_document
    sums = D * (by_seed**2).sum((-1, -2)), S * (by_document**2).sum((-1, -2)), (rest**2).sum((-1, -2))
    freedom = S - 1, D - 1, (S - 1) * (D - 1)
    first, second, third = (each / max(1, count) for each, count in zip(sums, freedom, strict=True))
    return first, second, third


def components(x: np.ndarray) -> Components:
    """The variance components of [S, D] by the method of moments; with one seed all of it is the documents'."""
    S, D = x.shape
    seed, document, rest = (float(each) for each in mean_squares(x))
    return Components(max(0.0, (seed - rest) / D), max(0.0, (document - rest) / S), rest)


def seeds_needed(parts: Components, documents: int, half_width: float, *, most: int = 1000) -> int | None:
    """The least number of seeds (3 at least) at which the 95% interval is expected to be ± `half_width`.

    None where no number up to `most` does: documents then bound it, and more of them are needed.

    >>> seeds_needed(Components(seed=1e-4, document=1e-4, rest=1e-3), documents=200, half_width=0.01)
    7
    >>> seeds_needed(Components(0.0, 1.0, 0.0), documents=100, half_width=0.01) is None
    True
    """
    bound = t_quantile(0.975, documents - 1) * math.sqrt(parts.document / documents)
    if bound > half_width:
        return None
    for seeds in range(SEEDS, most + 1):
        if expected_half_width(parts, seeds, documents) <= half_width:
            return seeds
    return None


def expected_half_width(parts: Components, seeds: int, documents: int) -> float:
    """The half-width of the 95% interval when every mean square has its expected value.

    >>> round(expected_half_width(Components(seed=1e-4, document=1e-4, rest=1e-3), 7, 200), 4)
    0.0096
    """
    S, D = seeds, documents
    rest = parts.rest
    seed, document = rest + D * parts.seed, rest + S * parts.document
    both = seed + document - rest
    if both <= 0:
        return 0.0
    degrees = both**2 / (seed**2 / (S - 1) + document**2 / (D - 1) + rest**2 / ((S - 1) * (D - 1)))
    return t_quantile(0.975, max(1, int(degrees + 1e-9))) * math.sqrt(both / (S * D))


def _two_sided(mean: float, variance: float, degrees: int) -> float:
    if variance > 0:
        return t_tail(abs(mean) / math.sqrt(variance), degrees)
    return 1.0 if mean == 0 else 0.0

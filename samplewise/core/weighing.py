"""From what a rule says to the weights of a step: fields there, values usable, weights finite and of mean 1."""

from __future__ import annotations

from typing import TYPE_CHECKING

from samplewise.core.errors import SamplewiseError
from samplewise.core.host import beside, host
from samplewise.core.samples import Samples

if TYPE_CHECKING:
    import torch
    from torch import Tensor
else:
    from samplewise.core.lazy import torch

FIELDS = {
    "weight": "Give the data a column sample_weight.",
    "reference": "Give the data a column reference_loss (samplewise score writes one), or a reference model.",
    "group": "Give the data a column group; of text in a run file, data.groups: folder does.",
    "stored_loss": "Give the data a column stored_loss (samplewise score writes one; data.scores in a run file).",
}
"""How to get the optional fields of `Samples`."""


def present_by_id(samples: Samples) -> Tensor:
    """[K] positions of the samples that have a token and a finite loss, sorted by id: sums know no split then."""
    order = host(samples.id).argsort(kind="stable")
    there = host((samples.tokens > 0) & torch.isfinite(samples.loss))
    return beside(order[there[order]], samples.id)


def check_fields(rule: object, required: frozenset[str], samples: Samples) -> None:
    """Errors: SamplewiseError naming a field that the rule reads and the samples do not have, and how to get it."""
    for name in sorted(required - samples.given().keys()):
        raise SamplewiseError(
            name, expected=f"samples with this field, which {rule} reads", got="samples without it",
            remedy=FIELDS[name],
        )  # fmt: skip


def check_values(rule: object, required: frozenset[str], samples: Samples, *, negative: bool = False) -> None:
    """Errors: SamplewiseError naming the samples whose value of a field that the rule reads cannot be used."""
    for name in sorted(required):
        value = getattr(samples, name)
        from_zero = name == "weight" and not negative
        bad = ~torch.isfinite(value) | (value < 0 if from_zero else torch.zeros_like(value, dtype=torch.bool))
        if host(bad).any():
            raise SamplewiseError(
                name, expected=f"finite numbers{' of at least 0' if from_zero else ''}, which {rule} reads",
                got=f"{value[bad][:5].tolist()} for ids {samples.id[bad][:5].tolist()}",
                remedy="Fill the column in, or leave those rows out of the data.",
            )  # fmt: skip


def check_weights(rule: object, weights: Tensor, samples: Samples, *, negative: bool = False) -> None:
    """Errors: SamplewiseError unless a rule's weights are N finite numbers, of at least 0 unless `negative`."""
    usable = torch.isfinite(weights) if negative else torch.isfinite(weights) & (weights >= 0)
    if weights.shape != samples.loss.shape or not host(usable).all():
        raise SamplewiseError(
            "rule", expected=f"{len(samples)} finite weights of at least 0",
            got=f"{weights.flatten()[:8].tolist()} … from {rule}",
            remedy="Fix the rule: it must return one finite weight of at least 0 per sample.",
        )  # fmt: skip


def with_mean_one(rule: object, weights: Tensor) -> Tensor:
    """[N] the weights over the mean of their sizes, signs kept. Errors: SamplewiseError if all are 0."""
    largest = weights.abs().max()
    if not host(largest) > 0:
        raise SamplewiseError(
            "rule", expected="at least one sample with a weight other than 0",
            got=f"none of {len(weights)} from {rule}",
            remedy="Loosen the selection, or raise the number of samples of a step.",
        )  # fmt: skip
    weights = weights / largest  # so that a sum of denormals divides as any other
    return weights / weights.abs().sum() * len(weights)


def no_token_in_step() -> SamplewiseError:
    """The error of a step in which nothing is predicted."""
    return SamplewiseError(
        "labels", expected="at least one predicted token in a step", got="none",
        remedy="Every row is masked with −100 (a row of one token predicts nothing either): check the labels.",
    )  # fmt: skip

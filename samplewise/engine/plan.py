"""One optimizer step as a plan: what each of its N samples counts. The only place that divides by a normaliser."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Literal

import torch
from torch import Tensor

from samplewise.core.errors import SamplewiseError
from samplewise.core.rule import Rule, State
from samplewise.core.samples import Samples, as_samples
from samplewise.core.statistics import correlation, effective_sample_size, kl_to_uniform

Per = Literal["sample", "token"]


@dataclass(frozen=True)
class Plan:
    """What the N given samples count in this step, in the order they were given.

    weights: [N] mean 1 over the samples present; 0 where a sample is dropped, has no token or no finite loss.
    coefficients: [N] what each sample loss is multiplied by; they sum to 1 over the step.
        With a rule of norm "count" the mean and the sum are 1 in expectation only.
    figures: loss (unweighted), weighted_loss, ess (a share of N), max_weight, kl (nats), kept (a share),
        length_corr, samples, empty, nonfinite.
    state: the rule's state after this step.
    nonfinite: ids of samples left out because their loss is NaN or infinite.
    """

    weights: Tensor
    coefficients: Tensor
    figures: dict[str, float]
    state: State
    nonfinite: list[int]


@torch.no_grad()
def plan_step(
    rule: Rule,
    samples: Samples,
    state: State,
    *,
    mass: Tensor | None = None,
    max_nonfinite: float = 0.01,
) -> Plan:
    """Weigh all N samples of a step and normalise once.

    samples: every sample of the step, over micro-batches and ranks, in any order; the plan is in the same order.
    mass: [N] what a sample counts before the rule weighs it: None (1 each) gives Σ w_i L_i / Σ w_i, token counts
        give Σ w_i n_i L_i / Σ w_i n_i.
    max_nonfinite: the largest share of samples that may have a NaN or infinite loss: those are left out, as if
        they were not in the batch (a factor of 0 would not do: 0·inf is NaN in every gradient).
    Cost: N floats, sorted once by id so that sums do not depend on the split; below 2 ms at N = 4,096.
    Errors: SamplewiseError on too many non-finite losses, on no sample at all, on a rule that selects nothing.
    """
    check_fields(rule, samples)
    order = torch.argsort(samples.id, stable=True)
    present, finite = samples.tokens > 0, torch.isfinite(samples.loss)
    usable, index = present & finite, order
    nonfinite: list[int] = []
    if not bool(usable.all()):
        index, nonfinite = order[usable[order]], samples.id[order[(present & ~finite)[order]]].tolist()
    _check_present(len(index), nonfinite, max_nonfinite)
    taken = samples.select(index)
    check_values(rule, taken)
    weights = _weights(rule, taken, state)
    q = torch.ones_like(weights) if mass is None else mass[index].to(weights)
    coefficients = weights * q / normaliser(rule, weights * q, q)
    figures = {
        "loss": float((taken.loss * q).sum() / q.sum()),
        "weighted_loss": float((taken.loss * coefficients).sum()),
        "ess": effective_sample_size(weights) / len(taken) if bool(weights.any()) else 0.0,
        "max_weight": float(weights.max()),
        "kl": kl_to_uniform(weights),
        "kept": float((weights > 0).double().mean()),
        "length_corr": correlation(weights, taken.tokens),
        "samples": float(len(taken)),
        "empty": float((~present).sum()),
        "nonfinite": float(len(nonfinite)),
    }
    new_state = rule.update(taken, torch.ones_like(weights), state)
    return Plan(
        _scattered(weights, index, samples), _scattered(coefficients, index, samples), figures, new_state, nonfinite
    )


def learned(rule: Rule, samples: Samples, state: State) -> State:
    """The rule's state after a step whose losses came with the training: for rules that need none for their weights.

    samples: all N of the step, as they were given to `plan_step`; NaN where a sample was left out and never run.
    """
    order = torch.argsort(samples.id, stable=True)
    taken = samples.select(order[samples.tokens[order] > 0])
    return rule.update(taken, torch.ones_like(taken.loss), state)


def check_fields(rule: Rule, samples: Samples) -> None:
    """Errors: SamplewiseError naming a field that the rule reads and the samples do not have, and how to get it."""
    for name in sorted(rule.needs - samples.given().keys()):
        raise SamplewiseError(
            name, expected=f"samples with this field, which {rule} reads", got="samples without it",
            remedy=FIELDS[name],
        )  # fmt: skip


def check_values(rule: Rule, samples: Samples) -> None:
    """Errors: SamplewiseError naming the samples whose value of a field that the rule reads cannot be used."""
    for name in sorted(rule.needs):
        value = getattr(samples, name)
        bad = ~torch.isfinite(value) | (value < 0 if name == "weight" else torch.zeros_like(value, dtype=torch.bool))
        if bool(bad.any()):
            raise SamplewiseError(
                name, expected=f"finite numbers{' of at least 0' if name == 'weight' else ''}, which {rule} reads",
                got=f"{value[bad][:5].tolist()} for ids {samples.id[bad][:5].tolist()}",
                remedy="Fill the column in, or leave those rows out of the data.",
            )  # fmt: skip


def normaliser(rule: Rule, weighed: Tensor, mass: Tensor) -> float:
    """What a step's gradient is divided by, whichever way the step is run.

    weighed: [N] weight (or factor) × mass of every sample present in the step; mass: [N], 1 each or token counts.
    """
    return float(weighed.sum() if rule.norm == "sum" else mass.sum())


FIELDS = {
    "weight": "Give the data a column sample_weight.",
    "reference": "Give the data a column reference_loss (samplewise score writes one), or a reference model.",
    "group": "Give the data a column group; of text in a run file, data.groups: folder does.",
}
"""How to get the optional fields of `Samples`."""


def weights(
    rule: Rule, losses: object, tokens: object = None, *,
    weight: object = None, reference: object = None, group: object = None,
) -> Tensor:  # fmt: skip
    """What `rule` makes of these losses at its first step: [N] weights of mean 1 over the samples present.

    losses: [N] nats/token, a tensor or a sequence; tokens: [N] predicted tokens, 1 each if not given (a sample
    without a token is not one: weight 0). Ids are the positions.
    weight, reference, group: [N] for rules that read them: the data's own weights, losses under a reference model in
    nats/token, numbers of groups.
    Errors: SamplewiseError, as in training.

    >>> import samplewise as sw
    >>> sw.weights(sw.band(drop_top=0.25), [1.0, 2.0, 3.0, 4.0]).tolist()
    [1.3333333333333333, 1.3333333333333333, 1.3333333333333333, 0.0]
    """
    if not isinstance(rule, Rule):
        raise SamplewiseError(
            "rule",
            expected="a Rule",
            got=repr(rule),
            remedy='For example ir_dro(r=1.0); parse_rule("ir_dro(r=1.0)") reads text.',
        )
    samples = as_samples(losses, tokens, weight=weight, reference=reference, group=group)
    wide = replace(samples, loss=samples.loss.double())
    return plan_step(rule, wide, rule.init(), max_nonfinite=1.0).weights.to(samples.loss.dtype)


def _weights(rule: Rule, samples: Samples, state: State) -> Tensor:
    """[N] the rule's weights, brought to mean 1 unless they are to be divided by the number of samples."""
    raw = rule.apply(torch.ones_like(samples.loss), samples, state)
    if raw.shape != samples.loss.shape or not bool(torch.isfinite(raw).all()) or bool((raw < 0).any()):
        raise SamplewiseError(
            "rule", expected=f"{len(samples)} finite weights of at least 0",
            got=f"{raw.flatten()[:8].tolist()} … from {rule}",
            remedy="Mend the rule: weights in, weights out.",
        )  # fmt: skip
    if rule.norm == "count":
        return raw  # all 0 in a step from which chance has dropped everything
    largest = raw.max()
    if not bool(largest > 0):
        raise SamplewiseError(
            "rule", expected="at least one sample with a weight above 0", got=f"none of {len(samples)} from {rule}",
            remedy="Loosen the selection, or raise the number of samples of a step.",
        )  # fmt: skip
    raw = raw / largest  # so that a sum of denormals divides as any other
    return raw / raw.sum() * len(raw)


def _check_present(present: int, nonfinite: list[int], limit: float) -> None:
    share = len(nonfinite) / max(1, present + len(nonfinite))
    if share > limit:
        raise SamplewiseError(
            "loss", expected=f"at most {limit:.3%} of a step's samples with a non-finite loss",
            got=f"{len(nonfinite)} of {present + len(nonfinite)}, ids {nonfinite[:10]}",
            remedy="Look at those samples, lower the learning rate, or raise max_nonfinite to leave them out.",
        )  # fmt: skip
    if present == 0:
        raise no_token_in_step()


def no_token_in_step() -> SamplewiseError:
    """The error of a step in which nothing is predicted."""
    return SamplewiseError(
        "labels", expected="at least one predicted token in a step", got="none",
        remedy="Every row is masked with −100 (a row of one token predicts nothing either): check the labels.",
    )  # fmt: skip


def _scattered(values: Tensor, index: Tensor, samples: Samples) -> Tensor:
    out = torch.zeros(len(samples), dtype=values.dtype, device=values.device)
    out[index] = values
    return out

"""One optimizer step as a plan: what each of its N samples counts. The only place that divides by a normalizer."""

from __future__ import annotations

import logging
from dataclasses import dataclass, replace
from functools import lru_cache
from itertools import pairwise
from typing import Literal

import numpy as np
import torch
from torch import Tensor

from samplewise.core import notebook
from samplewise.core.errors import SamplewiseError
from samplewise.core.host import host, positions, wide
from samplewise.core.rule import Rule, State
from samplewise.core.samples import Samples, Values, as_samples
from samplewise.core.statistics import correlation, effective_sample_size, kl_to_uniform
from samplewise.core.weighing import check_fields, no_token_in_step, present_by_id
from samplewise.rules.parse import parse_rule

logger = logging.getLogger("samplewise")

Per = Literal["sample", "token"]
StepNorm = Literal["weights", "nonzero_tokens"]


@dataclass(frozen=True)
class Plan:
    """What the N given samples count in this step, in the order they were given.

    weights: [N] mean 1 over the samples present; 0 where a sample is dropped, has no token or no finite loss.
    coefficients: [N] what each sample loss is multiplied by; they sum to 1 over the step.
        With a rule of norm "count" the mean and the sum are 1 in expectation only. Where weights may be negative, mean
        and sum are those of sizes. With norm "nonzero_tokens" coefficients sum to what `normalizer` makes of them.
    figures: loss (unweighted), weighted_loss, ess (a share of N), max_weight, kl (nats), kept (a share),
        length_corr, samples, empty, nonfinite, no_effect (1 where the step is too short for the rule); where weights
        may be negative, the share of the weight that is (`negative`). ess, max_weight, kl, length_corr are of sizes.
    state: the rule's state after this step.
    nonfinite: ids of samples left out because their loss is NaN or infinite.
    shortfall: what the rule could not do in a step of so few samples, with the least number; None as a rule.
    """

    weights: Tensor
    coefficients: Tensor
    figures: dict[str, float]
    state: State
    nonfinite: list[int]
    shortfall: SamplewiseError | None = None

    def _repr_html_(self) -> str:
        """The figures, and how many samples have which weight."""
        edges = [0.0, 0.25, 0.5, 0.75, 1.0, 1.5, 2.0, 4.0, float("inf")]
        kept = self.weights[self.weights != 0]
        parts = [("0", int((self.weights == 0).sum()))]
        for low, high in pairwise(edges):
            parts.append((f"{low:g} to {high:g}", int(((kept > low) & (kept <= high)).sum())))
        drawing = notebook.bars(parts, "samples by weight: 0, then up to 0.25, 0.5, 0.75, 1, 1.5, 2, 4, above")
        return notebook.table(self.figures, "one step") + drawing


class ShortSteps:
    """Counts the steps that were too short for their rule, and warns once a run. count: how many so far."""

    def __init__(self) -> None:
        self.count = 0

    def take(self, shortfall: SamplewiseError | None, rule: Rule, step: int) -> None:
        """Count the `Plan.shortfall` of a step, and warn about the first of the run."""
        if shortfall is not None and self.count == 0:
            logger.warning(
                "step %d has too few samples for %s, as any step of this size (counted as no_effect): %s",
                step, rule, shortfall,
            )  # fmt: skip
        self.count += shortfall is not None


@torch.no_grad()
def plan_step(
    rule: Rule,
    samples: Samples,
    state: State,
    *,
    base_weight: Tensor | None = None,
    max_nonfinite: float = 0.01,
    allow_negative: bool = False,
    norm: StepNorm = "weights",
) -> Plan:
    """Weigh all N samples of a step and normalize once.

    samples: every sample of the step, over micro-batches and ranks, in any order; the plan is in the same order.
    base_weight: [N] what a sample counts before the rule weighs it: None (1 each) gives Σ w_i L_i / Σ w_i, token counts
        give Σ w_i n_i L_i / Σ w_i n_i.
    max_nonfinite: the largest share of samples that may have a NaN or infinite loss: those are left out, as if
        they were not in the batch (a factor of 0 would not do: 0·inf is NaN in every gradient).
    allow_negative: whether the data's weights may be below 0; sums of weights are then sums of their sizes.
    norm: what the step is divided by (`normalizer`).
    Cost: N floats, sorted once by id so that sums do not depend on the split; below 2 ms at N = 4,096.
    Errors: SamplewiseError on too many non-finite losses, on no sample at all, on a rule that selects nothing. A step
    that is too short for the rule to do anything is none (`Plan.shortfall`).
    """
    check_fields(rule, rule.required_fields, samples)
    index = present_by_id(samples)
    nonfinite = _nonfinite(samples) if len(index) < len(samples) else []
    _check_present(len(index), nonfinite, max_nonfinite)
    taken = samples.select(index)
    raw, ones = rule.raw(taken, state, negative=allow_negative), torch.ones_like(taken.loss)
    weights, shortfall = rule.normalized(raw), rule.shortfall(ones, taken, state)
    q = ones if base_weight is None else base_weight[index].to(weights)
    weighed = (weights if norm == "weights" else raw) * q
    coefficients = weighed / normalizer(rule, weighed, q, taken.tokens, norm)
    figures = {
        "loss": mean_loss(taken.loss, q),
        "weighted_loss": float(wide(taken.loss) @ wide(coefficients)),
        **_shape(weights, taken.tokens),
        "samples": float(len(taken)),
        "empty": float((host(samples.tokens) <= 0).sum()),
        "nonfinite": float(len(nonfinite)),
        "no_effect": float(shortfall is not None),
    }
    if allow_negative:
        signed = wide(weights)
        figures["negative"] = float(-signed[signed < 0].sum() / np.abs(signed).sum())
    return Plan(
        weights=_scattered(weights, index, samples), coefficients=_scattered(coefficients, index, samples),
        figures=figures, state=rule.update(taken, ones, state), nonfinite=nonfinite, shortfall=shortfall,
    )  # fmt: skip


def mean_loss(loss: Tensor, base_weight: Tensor) -> float:
    """The unweighted mean of the losses [N]: by their base weights alone."""
    return float(wide(loss) @ wide(base_weight) / wide(base_weight).sum())


def _shape(weights: Tensor, tokens: Tensor) -> dict[str, float]:
    """The figures of weights [N] alone: of their sizes, where some are below 0."""
    size = weights.abs()
    return {
        "ess": effective_sample_size(size) / len(size),
        "max_weight": float(host(size).max()),
        "kl": kl_to_uniform(size),
        "kept": float((host(size) > 0).mean()),
        "length_corr": correlation(size, tokens),
    }


def _nonfinite(samples: Samples) -> list[int]:
    """Ids, ascending, of samples that have a token and a loss that is not finite."""
    return sorted(host(samples.id)[host((samples.tokens > 0) & ~torch.isfinite(samples.loss))].tolist())


def learned(rule: Rule, samples: Samples, state: State) -> State:
    """The rule's state after a step whose losses came with the training: for rules that need no losses to weigh.

    samples: all N of the step, as they were given to `plan_step`; NaN where a sample was left out and never run.
    """
    order = torch.argsort(samples.id, stable=True)
    taken = samples.select(order[positions(samples.tokens[order] > 0)])
    return rule.update(taken, torch.ones_like(taken.loss), state)


def normalizer(
    rule: Rule, weighed: Tensor, base_weight: Tensor, tokens: Tensor, norm: StepNorm = "weights"
) -> float:  # fmt: skip
    """What a step's gradient is divided by, whichever way the step is run.

    weighed: [N] weight (or unnormalized weight) × base weight of every sample present in the step.
    base_weight: [N] 1 each, or token counts. tokens: [N] predicted tokens of a weight other than 0.
    norm: "weights": Σ |weighed|, or Σ base_weight where the rule's norm is "count". "nonzero_tokens": the tokens of the
        samples of a weight other than 0, so that the size of weights counts.
    """
    if norm == "nonzero_tokens":
        return float(max(host(tokens)[host(weighed) != 0].sum(), 1))
    return float(np.abs(wide(weighed)).sum() if rule.norm == "sum" else wide(base_weight).sum())


def weights(
    rule: Rule | str, losses: Values, tokens: Values | None = None, *,
    weight: Values | None = None, reference: Values | None = None, group: Values | None = None,
    stored_loss: Values | None = None,
) -> Tensor:  # fmt: skip
    """What `rule` makes of these losses at its first step: [N] weights of mean 1 over the samples present.

    rule: or its text, "ir_dro(r=1.0)".
    losses: [N] nats/token, a tensor, array, Series or sequence; tokens: [N] predicted tokens, 1 each if not given (a
    sample without a token is not one: weight 0). Ids are the positions.
    weight, reference, group, stored_loss: [N] for rules that read them: the data's own weights, losses under a
    reference model in nats/token, numbers of groups, losses known beforehand.
    Every call is a first step. In a loop, rules that remember (a warm-up, a schedule, `group_dro`, `random_keep`) need
    `samplewise.Weigher`, which keeps their state; this function warns once of a rule that does.
    Errors: SamplewiseError, as in training, on no loss at all, on a loss that is NaN or infinite, and on too few losses
    for the rule to do anything.

    >>> import samplewise as sw
    >>> sw.weights("band(drop_top=0.25)", [1.0, 2.0, 3.0, 4.0]).tolist()
    [1.3333333333333333, 1.3333333333333333, 1.3333333333333333, 0.0]
    """
    rule = as_rule(rule)
    if rule.remembers:
        _say_once(
            "%s remembers past steps, and these are the weights of its first: Weigher(rule) keeps count", str(rule)
        )
    more = {"weight": weight, "reference": reference, "group": group, "stored_loss": stored_loss}
    samples = as_samples(losses, tokens, **more)
    _check_losses(samples)
    plan = plan_wide(rule, samples, rule.init())
    if plan.shortfall is not None:  # a step that stands alone is the largest there is
        raise plan.shortfall
    return plan.weights.to(samples.loss.dtype)


def as_rule(rule: object) -> Rule:
    """The rule, or the one that a text spells. Errors: SamplewiseError where it is neither."""
    if isinstance(rule, str):
        return parse_rule(rule)
    if not isinstance(rule, Rule):
        raise SamplewiseError(
            "rule",
            expected="a Rule or its text",
            got=repr(rule),
            remedy='For example "ir_dro(r=1.0)", or ir_dro(r=1.0).',
        )
    return rule


def _check_losses(samples: Samples) -> None:
    """In training a loss that is not finite is left out and counted; who looks at a rule has made a mistake."""
    if len(samples) == 0:
        raise SamplewiseError("losses", expected="at least one loss", got="none", remedy="Give one loss a sample.")
    bad = _nonfinite(samples)
    if bad:
        first, more = float(samples.loss[bad[0]]), f" and {len(bad) - 1} more" if bad[1:] else ""
        raise SamplewiseError(
            "losses", expected="finite numbers", got=f"{first} at position {bad[0]}{more}",
            remedy="Leave those samples out, or give them 0 tokens.",
        )  # fmt: skip


def plan_wide(rule: Rule, samples: Samples, state: State) -> Plan:
    """The plan in fp64, whatever losses are not finite left out."""
    return plan_step(rule, replace(samples, loss=samples.loss.double()), state, max_nonfinite=1.0)


@lru_cache(maxsize=1024)
def _say_once(message: str, *values: str) -> None:
    """Log a warning once per process and rule: `weights` is called in loops."""
    logger.warning(message, *values)


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


def _scattered(values: Tensor, index: Tensor, samples: Samples) -> Tensor:
    out = torch.zeros(len(samples), dtype=values.dtype, device=values.device)
    out[index] = values
    return out

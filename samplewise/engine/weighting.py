"""The options of weighting as plain values, the way files hold them: their names, defaults and meaning, once.

A run file has them all, a plan those of a step, an arm those of a rule; `engine.options` checks them. Fields are given
by keyword, so that a class that inherits them may have required fields of its own.
"""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import Any, Literal

from samplewise.engine.plan import Per, StepNorm

TrainingBackend = Literal["auto", "chunked", "triton", "torch", "liger"]


@dataclass(frozen=True, kw_only=True)
class RuleOptions:
    """What weighs the samples of a step, and from which losses.

    rule: as `parse_rule` reads it.
    token_rule: which tokens of a sample count, before the rule weighs samples, as `parse_token_rule` reads it.
    reference_model: a second model of the same tokenizer by name (a hub id, a folder or a .gguf file), run without
        gradient: for token rules, and for rules on excess loss where the data has no column reference_loss. It costs
        one more forward.
    loss_from: "fresh", or "stored": the rule sees each sample's stored loss, from the column stored_loss, else from its
        last visit, so that rows are chosen before any forward and a step costs its kept share. What has none is scored,
        and so is a random 5%, to compare; while their rank correlation is below `min_stored_corr`, all are.
    """

    rule: str
    token_rule: str | None = None
    reference_model: str | None = None
    loss_from: Literal["fresh", "stored"] = "fresh"


@dataclass(frozen=True, kw_only=True)
class StepOptions:
    """How the weights of a step become its gradient, whatever the rule.

    per: "sample" (the mean over samples of their mean token losses) or "token" (the mean over tokens; with
        `uniform()` the Trainer's own loss and gradient).
    normalize: "step" (exact over all micro-batches and ranks) or "micro" (per micro-batch and rank, as published
        code does: another estimator, warned about, refused for micro-batches of one row).
    pool: how many times as many candidates are drawn as are trained on, for rules that keep at most 1/pool of them.
        It multiplies the loader's batch, so an epoch still sees every row once.
    max_nonfinite: the largest share of a step's samples that may have a NaN or infinite loss; they are left out.
    allow_negative: the data's weights (column `sample_weight`) may be below 0: such a sample's loss is raised
        (unlearning), and a step is divided by Σ |w|. For `column_weights` and rules that multiply (`Rule.multiplies`).
    norm: "weights" divides a step by Σ w_i n_i; "nonzero_tokens", with per="token", by the number of predicted tokens
        of a weight other than 0 (of those samples, and of `token_weights`): then the size of weights counts. For the
        data's weights, selections and other rules that have a scale (`Rule.absolute`).
    logits: "refuse" models whose losses cannot be had without logits, or "allow" the logits, at their price.
    backend: which kernels compute losses from hidden states and head, as in `samplewise.losses.kernels`; "auto" takes
        "triton" on CUDA where it can run, else "chunked". What was asked for and cannot run is an error.
    """

    per: Per = "sample"
    normalize: Literal["step", "micro"] = "step"
    pool: int = 1
    max_nonfinite: float = 0.01
    allow_negative: bool = False
    norm: StepNorm = "weights"
    logits: Literal["refuse", "allow"] = "refuse"
    backend: TrainingBackend = "auto"


@dataclass(frozen=True, kw_only=True)
class Weighting(StepOptions, RuleOptions):
    """All that a file says of weighting.

    log_samples: a folder for the id, step, loss, tokens and weight of every sample (`samplewise.engine.sample_log`).
    """

    log_samples: str | None = None


def weighting_values(config: object) -> dict[str, Any]:
    """The fields of `Weighting` that a configuration has, by name: keyword arguments of `WeightingOptions`, a trainer.

    Those that are None are left out: None is the default, or what the plan says.

    >>> weighting_values(Weighting(rule="uniform()", pool=2))["pool"]
    2
    """
    names = [each.name for each in fields(Weighting)]
    return {name: value for name in names if (value := getattr(config, name, None)) is not None}

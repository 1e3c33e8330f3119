"""The controls that every comparison gets: other learning rates, and random selections of the same share."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cache
from math import prod
from typing import Any, Literal

import torch

from samplewise.core.errors import SamplewiseError
from samplewise.core.rule import Epoch, Rule
from samplewise.core.samples import Samples
from samplewise.core.typed import fits, shown
from samplewise.engine.options import token_rule_of
from samplewise.engine.plan import plan_step
from samplewise.evidence.plan import ArmConfig, PlanConfig, arms_of, weighting_of
from samplewise.rules import TokenRule, parse_rule
from samplewise.rules.budget import resolve

MOST = 10**5
"""Of rows to a micro-batch, of micro-batches to a step, of steps to a pool."""
Role = Literal["control", "rate", "random", "oracle", "average", "arm"]
ORACLE = "oracle"


@dataclass(frozen=True)
class Arm:
    """An arm as it is run. role: "control", "rate", "random", "oracle" or "average" (controls too), or "arm".

    of: what a random control is the control of. rate, batch: multiples of the learning rate and of a step's rows.
    kept: the share of samples that its rule keeps, chosen: the share of tokens that its token rule leaves of them, as
    far as losses of a normal distribution tell.
    """

    name: str
    config: ArmConfig
    role: Role
    rate: float = 1.0
    batch: float = 1.0
    of: str | None = None
    kept: float = 1.0
    chosen: float = 1.0


def all_arms(plan: PlanConfig) -> list[Arm]:
    """The arms of the plan with the default controls, in the order in which they run: the control first.

    A random control keeps the mean share of samples, and of tokens, that its arm would; arms of the same shares, pool
    and corpus have one together.
    """
    own = arms_of(plan)
    arms = [Arm(plan.control, own.pop(plan.control), "control")]
    arms += [Arm(average_of(plan), arms[0].config, "average")] if plan.controls.average else []
    arms += [Arm(ORACLE, arms[0].config, "oracle")] if plan.controls.oracle else []
    arms += [
        Arm(f"{plan.control} at {rate:g}× the learning rate", arms[0].config, "rate", rate)
        for rate in ([] if plan.tune is not None and plan.tune.learning_rate else plan.controls.rates)
    ]
    randoms: dict[tuple[Any, ...], str] = {}
    for name, config in own.items():
        under = config.under(0)
        rule = parse_rule(under.rule)
        kept = kept_share(rule, samples_of_step(plan, config)) * kept_of_epochs(rule, plan.budget.epochs)
        token_rule = token_rule_of(rule, under.token_rule)
        chosen = 1.0 if token_rule is None else chosen_share(token_rule)
        control = None
        if plan.controls.random and _selects(config, kept, chosen):
            by_epoch = rule.epochs is not None
            own_terms = config.pool, config.data, repr(config.training), config.per, config.normalize, config.control
            key = (by_epoch, round(kept, 6), round(chosen, 6), config.budget_share, *own_terms)
            if key not in randoms:
                label = (
                    f"random {kept:.4g}"
                    + (" of every epoch" if by_epoch else "")
                    + (f" of samples, {chosen:.4g} of tokens" if chosen < 1 else "")
                )
                again = f" ({len(randoms) + 1})" if _taken(label, randoms) else ""
                randoms[key] = label + again
                chance = _at_random(config, kept, chosen, by_epoch)
                arms.append(Arm(name=randoms[key], config=chance, role="random", of=name, kept=kept, chosen=chosen))
            control = randoms[key]
        arms.append(Arm(name=name, config=config, role="arm", of=control, kept=kept, chosen=chosen))
    return arms


def _selects(config: ArmConfig, kept: float, chosen: float) -> bool:
    """Whether the arm leaves out samples or tokens, and not at random."""
    samples = kept < 1 and not config.rule.startswith("random_keep")
    tokens = chosen < 1 and not str(config.token_rule).startswith("random_tokens")
    return samples or tokens


def kept_of_epochs(rule: Rule, epochs: float | None) -> float:
    """The mean share of the data that a rule leaves in the orders of its epochs; 1 for rules that decide step by step.

    epochs: of the run, where they are known: the first has all samples if losses become known there. On losses drawn
    from a normal distribution, as in `kept_share`: about what it is on others.
    """
    if rule.epochs is None:
        return 1.0
    draw, count = torch.Generator().manual_seed(0), 2**14
    loss = 3 + 0.6 * torch.randn(count, generator=draw, dtype=torch.float64)
    samples = Samples(loss, torch.full((count,), 100), torch.arange(count))
    state = rule.epochs.begin(Epoch(1, samples, torch.zeros(count, dtype=torch.float64)), rule.init())
    left_out = 1 - float(rule.epochs.keeps(samples.id, state).double().mean())
    whole = 1 / epochs if epochs is not None and rule.epochs.needs_loss else 0.0
    return round(1 - left_out * max(0.0, rule.epochs.until - whole), 6)


def _at_random(config: ArmConfig, kept: float, chosen: float, by_epoch: bool) -> ArmConfig:
    """The random control of an arm: the same share of samples or tokens, chosen at random at no cost."""
    scope = ', scope="epoch"' if by_epoch else ""
    rule = f"random_keep(share={kept:.12g}, seed={{seed}}{scope})" if kept < 1 else "uniform()"
    token = None if chosen == 1 else f"random_tokens(keep={chosen:.12g}, seed={{seed}})"
    return replace(
        config,
        rule=rule,
        token_rule=token,
        reference_model=None,
        loss_from="fresh",
        prior=type(config.prior)(),
        margin=None,
    )


def _taken(label: str, randoms: dict[tuple[Any, ...], str]) -> bool:
    return label in randoms.values()


def samples_of_step(plan: PlanConfig, arm: ArmConfig) -> int:
    """Rows of a step before any is dropped (a row is a sample where none is packed).

    Errors: SamplewiseError on numbers below 1.
    """
    training = {"per_device_train_batch_size": 8, "gradient_accumulation_steps": 1, **plan.training, **arm.training}
    sizes = ("per_device_train_batch_size", "gradient_accumulation_steps")
    numbers = {f"training.{name}": training[name] for name in sizes}
    numbers["pool"] = weighting_of(plan, arm).pool
    for name, value in numbers.items():
        if not fits(value, int) or not 1 <= value <= MOST:
            raise SamplewiseError(
                name, expected=f"a whole number from 1 to {MOST:,}", got=shown(value), remedy="Correct the value."
            )
    return prod(numbers.values())


def average_of(plan: PlanConfig) -> str:
    """The name of the control whose weights are averaged with those that it started from."""
    return f"{plan.control} averaged with the start"


def scaled_batch(arm: Arm, plan: PlanConfig) -> int:
    """Rows of a micro-batch of an arm whose batch is a multiple. Errors: SamplewiseError if that is no whole number."""
    training = {"per_device_train_batch_size": 8, **plan.training, **arm.config.training}
    rows = training["per_device_train_batch_size"] * arm.batch
    if rows != int(rows) or rows < 1:
        raise SamplewiseError(
            "tune.batch", expected="multiples that make whole numbers of rows in a micro-batch",
            got=f"{arm.batch:g} × {training['per_device_train_batch_size']}",
            remedy="Change the multiple, or per_device_train_batch_size.",
        )  # fmt: skip
    return int(rows)


@cache  # a plan asks again for the same rule, with other control arms
def kept_share(rule: Rule, samples: int, steps: int = 64) -> float:
    """The mean share of samples that a rule gives a weight above 0 in its first steps, taken for the whole run.

    On losses drawn from a normal distribution (3 ± 0.6 nats/token, reference 3 ± 0.6), seeded: exact for rules that
    keep a share, an estimate for those with a threshold.

    >>> from samplewise import band
    >>> kept_share(band(drop_top=0.25), 16)
    0.75
    """
    rule, samples = resolve(rule, steps), min(samples, 2**16)  # shares of larger steps are the same
    draw = torch.Generator().manual_seed(0)
    state, kept = rule.init(), 0.0
    for step in range(steps):
        losses = 3 + 0.6 * torch.randn(2, samples, generator=draw, dtype=torch.float64)
        ids = torch.arange(step * samples, (step + 1) * samples)
        given = Samples(
            loss=losses[0],
            tokens=torch.full((samples,), 100),
            id=ids,
            weight=torch.ones(samples, dtype=torch.float64),
            reference=losses[1],
            group=ids % 2,
            stored_loss=losses[0],
        )
        plan = plan_step(rule, given, state, max_nonfinite=1.0)
        state, kept = plan.state, kept + plan.figures["kept"]
    return round(kept / steps, 12)


def chosen_share(rule: TokenRule, samples: int = 8, tokens: int = 1000) -> float:
    """The mean share of tokens that a token rule gives a weight above 0, of losses drawn from a distribution.

    It is exponential with a mean of 2 nats: exact for rules that keep a share, an estimate for those with a limit.

    >>> from samplewise import rho1
    >>> chosen_share(rho1(keep=0.6))
    0.6
    """
    draw = torch.Generator().manual_seed(0)
    loss, reference = torch.empty(2, samples * tokens, dtype=torch.float64).exponential_(0.5, generator=draw)
    owner = torch.arange(samples).repeat_interleave(tokens)
    return round(float((rule(loss, reference, owner) > 0).double().mean()), 12)

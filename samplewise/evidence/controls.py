"""The controls that every comparison gets: other learning rates, and random selections of the same share."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any, Literal

import torch

from samplewise.evidence.plan import ArmConfig, PlanConfig, arms_of
from samplewise.rules import parse_rule
from samplewise.rules.budget import resolve
from samplewise.step import plan_step
from samplewise.types import Rule, Samples

Role = Literal["control", "rate", "random", "arm"]


@dataclass(frozen=True)
class Arm:
    """An arm as it is run. role: "control", "rate" or "random" (controls too), or "arm".

    of: what a random control is the control of. rate: multiple of the learning rate. kept: the share of samples that
    its rule keeps, as far as losses of a normal distribution tell.
    """

    name: str
    config: ArmConfig
    role: Role
    rate: float = 1.0
    of: str | None = None
    kept: float = 1.0


def all_arms(plan: PlanConfig) -> list[Arm]:
    """The plan's arms with the default controls, in the order in which they are run: the control first.

    A random control keeps the mean share that its arm would; arms of the same share, pool and corpus have one together.
    """
    own = arms_of(plan)
    arms = [Arm(plan.control, own.pop(plan.control), "control")]
    arms += [
        Arm(f"{plan.control} at {rate:g}× the learning rate", arms[0].config, "rate", rate)
        for rate in plan.controls.rates
    ]
    randoms: dict[tuple[Any, ...], str] = {}
    for name, config in own.items():
        kept = kept_share(parse_rule(config.rule.replace("{seed}", "0")), samples_of_step(plan, config))
        control = None
        if plan.controls.random and kept < 1 and not config.rule.startswith("random_keep"):
            key = (round(kept, 6), config.pool, config.data, repr(config.training), config.per, config.normalize)
            if key not in randoms:
                randoms[key] = f"random {kept:.4g}" + (f" ({len(randoms) + 1})" if _taken(kept, randoms) else "")
                rule = f"random_keep(share={kept:.12g}, seed={{seed}})"
                free = replace(config, rule=rule, prior=type(config.prior)())
                arms.append(Arm(randoms[key], free, "random", of=name, kept=kept))
            control = randoms[key]
        arms.append(Arm(name, config, "arm", of=control, kept=kept))
    return arms


def _taken(kept: float, randoms: dict[tuple[Any, ...], str]) -> bool:
    return f"random {kept:.4g}" in randoms.values()


def samples_of_step(plan: PlanConfig, arm: ArmConfig) -> int:
    """Rows of a step before any is dropped (a row is a sample where none is packed)."""
    training = {**plan.training, **arm.training}
    rows = int(training.get("per_device_train_batch_size", 8)) * int(training.get("gradient_accumulation_steps", 1))
    return rows * (arm.pool if arm.pool is not None else plan.pool)


def kept_share(rule: Rule, samples: int, steps: int = 64) -> float:
    """The mean share of samples that a rule gives a weight above 0 in its first steps, taken for the whole run.

    On losses drawn from a normal distribution (3 ± 0.6 nats/token, reference 3 ± 0.6), seeded: exact for rules that
    keep a share, an estimate for those with a threshold.

    >>> from samplewise import band
    >>> kept_share(band(drop_top=0.25), 16)
    0.75
    """
    rule = resolve(rule, steps)
    draw = torch.Generator().manual_seed(0)
    state, kept = rule.init(), 0.0
    for step in range(steps):
        losses = 3 + 0.6 * torch.randn(2, samples, generator=draw, dtype=torch.float64)
        ids = torch.arange(step * samples, (step + 1) * samples)
        given = Samples(
            losses[0], torch.full((samples,), 100), ids, torch.ones(samples, dtype=torch.float64), losses[1], ids % 2
        )
        plan = plan_step(rule, given, state, max_nonfinite=1.0)
        state, kept = plan.state, kept + plan.figures["kept"]
    return round(kept / steps, 12)

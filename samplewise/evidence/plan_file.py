"""A plan read from its file, with everything refused that a later run would stop at."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import asdict, replace
from itertools import product
from pathlib import Path

from samplewise.config import DataConfig
from samplewise.config.settings_file import load_settings
from samplewise.core.errors import SamplewiseError, nearest
from samplewise.engine.options import checked_options
from samplewise.evidence.controls import ORACLE, Arm, all_arms, scaled_batch
from samplewise.evidence.crossed import SEEDS
from samplewise.evidence.plan import HELD_OUT, ArmConfig, PlanConfig, arms_of, weighting_of
from samplewise.evidence.primary import check_primary


def load_plan(path: str | Path, overrides: Iterable[str] = ()) -> PlanConfig:
    """The plan that a YAML file describes; overrides and errors as in `load_config`."""
    plan = load_settings(PlanConfig, path, overrides)
    _check(plan)
    for name, arm in arms_of(plan).items():
        _check_control(f"arms.{name}", name, plan)
        _check_amounts(f"arms.{name}", arm)
        _check_prior(f"arms.{name}", arm, plan)
        _check_arm(f"arms.{name}", arm.under(plan.seeds[0]), plan)
    arms = all_arms(plan)
    _check_tune(plan, arms)
    check_primary(plan, [arm.name for arm in arms])
    return plan


def _check(plan: PlanConfig) -> None:
    given = [value for value in asdict(plan.budget).values() if value is not None]
    if len(given) != 1 or given[0] <= 0:
        raise SamplewiseError(
            "budget", expected="one of epochs, steps, tokens, compute and flops, above 0",
            got=f"{len(given)} of them: {given}", remedy="Give exactly one, for example budget: {steps: 100}.",
        )  # fmt: skip
    if not plan.seeds or len(set(plan.seeds)) < len(plan.seeds):
        raise SamplewiseError(
            "seeds", expected="different whole numbers", got=plan.seeds, remedy="Use [0, 1, 2], for example."
        )
    for name in plan.domains:
        if name == HELD_OUT or "/" in name:
            raise SamplewiseError(
                "domains", expected=f"a name without / that is not {HELD_OUT}", got=name, remedy="Rename the domain."
            )
    if plan.evaluations < 0:
        raise SamplewiseError(
            "evaluations",
            expected="0 or more",
            got=plan.evaluations,
            remedy="Use 1 to evaluate once, halfway through the run.",
        )
    if not (plan.arms or plan.sweep):
        raise SamplewiseError(
            "arms", expected="at least one", got="none", remedy='Add one, for example arms: {tilt: "ir_dro(r=1)"}.'
        )
    _check_oracle(plan)
    _check_fronts(plan)
    for key in ("seed", "max_steps", "num_train_epochs"):
        if key in plan.training:
            raise SamplewiseError(
                f"training.{key}", expected="no value here", got=plan.training[key],
                remedy="Remove it: the plan's seeds and budget set it.",
            )  # fmt: skip


def _check_oracle(plan: PlanConfig) -> None:
    """Refuse an oracle that knows nothing, and a stop that rests on too little."""
    controls = plan.controls
    if controls.oracle and (plan.labels is None or ORACLE in arms_of(plan)):
        expected = "labels of the corpus" if plan.labels is None else f"no other arm of the name {ORACLE}"
        raise SamplewiseError(
            "controls.oracle", expected=expected, got="none" if plan.labels is None else "one",
            remedy="Name the file in labels, or rename the arm.",
        )  # fmt: skip
    if controls.stop_early and (not controls.oracle or len(plan.seeds) < SEEDS):
        raise SamplewiseError(
            "controls.stop_early", expected=f"controls.oracle, and {SEEDS} seeds or more",
            got=f"{len(plan.seeds)} seeds" if controls.oracle else "no oracle",
            remedy="Add them, or remove stop_early.",
        )  # fmt: skip


def _check_tune(plan: PlanConfig, arms: Sequence[Arm]) -> None:
    """Refuse a grid with a point that cannot be run."""
    if plan.tune is None:
        return
    if not (plan.tune.learning_rate or plan.tune.batch) or plan.tune.documents < 2:
        raise SamplewiseError(
            "tune", expected="learning_rate or batch, and 2 documents or more", got=asdict(plan.tune),
            remedy="Use tune: {learning_rate: [0.5, 1, 2]}, for example.",
        )  # fmt: skip
    for key in ("learning_rate", "batch"):
        values = getattr(plan.tune, key)
        if any(value <= 0 for value in values) or len(set(values)) < len(values):
            raise SamplewiseError(
                f"tune.{key}", expected="different multiples above 0", got=values, remedy="Use [0.5, 1, 2]."
            )
    for arm, factor in product(arms, plan.tune.batch):
        scaled_batch(replace(arm, batch=factor), plan)


def _check_fronts(plan: PlanConfig) -> None:
    """Refuse fronts of sets that are not there, and curves without a point between their ends."""
    fronts = plan.fronts
    known = [HELD_OUT, *plan.domains]
    for name in [] if fronts is None else [fronts.new, *fronts.old]:
        if name not in known:
            raise SamplewiseError(
                "fronts", expected="held_out or domains of this plan", got=name, remedy=nearest(name, known)
            )
    if fronts is not None and (not fronts.old or fronts.new in fronts.old):
        raise SamplewiseError(
            "fronts.old", expected=f"sets other than {fronts.new}", got=fronts.old, remedy="Name a domain."
        )
    if (fronts is not None or plan.controls.average) and plan.evaluations < 1:
        raise SamplewiseError(
            "evaluations", expected="1 or more: a front is a curve over them", got=plan.evaluations,
            remedy="Use 4, for example.",
        )  # fmt: skip


def _check_amounts(place: str, arm: ArmConfig) -> None:
    """Refuse a share of no budget, and a margin of nothing."""
    if not 0 < arm.budget_share <= 1:
        raise SamplewiseError(
            f"{place}.budget_share", expected="above 0, up to 1", got=arm.budget_share, remedy="Use 0.8, for example."
        )
    if arm.margin is not None and arm.margin <= 0:
        raise SamplewiseError(
            f"{place}.margin", expected="nats/token above 0", got=arm.margin, remedy="Use 0.005, for example."
        )


def _check_prior(place: str, arm: ArmConfig, plan: PlanConfig) -> None:
    """Refuse, under a budget of flops, tokens that a model of unknown size was spent on."""
    prior = arm.prior
    for key, tokens, model in [
        ("scorer", prior.scored, prior.scorer), ("learner", prior.trained, prior.learner or arm.reference_model),
    ]:  # fmt: skip
        if plan.budget.flops is not None and tokens and model is None:
            raise SamplewiseError(
                f"{place}.prior.{key}", expected="the model that did it: its size is a part of the budget", got="none",
                remedy=f"Name it, for example prior: {{…, {key}: runs/small/model}}.",
            )  # fmt: skip


def _check_control(place: str, name: str, plan: PlanConfig) -> None:
    """Refuse a control that is not there, and one of other data that does not say so."""
    arms = arms_of(plan)
    arm = arms[name]
    if arm.control is None:
        return
    if arm.control not in arms or name in (arm.control, plan.control):
        others = [each for each in arms if each != name]
        expected = "none: it is the plan's control" if name == plan.control else "another arm of this plan"
        raise SamplewiseError(
            f"{place}.control", expected=expected, got=arm.control, remedy=nearest(arm.control, others)
        )
    if arms[arm.control].data != arm.data and not arm.other_data:
        raise SamplewiseError(
            f"{place}.control", expected=f"an arm with the same data ({arm.data or 'the plan’s own'})",
            got=f"{arm.control}, with {arms[arm.control].data or 'the plan’s own'}",
            remedy="Name a control that has the same data, or say other_data: true.",
        )  # fmt: skip


def _check_arm(place: str, arm: ArmConfig, plan: PlanConfig) -> None:
    """Refuse, before the first run, what a trainer would refuse in a later one."""
    try:
        options = checked_options(weighting_of(plan, arm))
        rule, token, data = options.rule, options.token_rule, plan.data
    except SamplewiseError as error:
        raise SamplewiseError(
            f"{place}: {error.argument}", expected=error.expected, got=error.got, remedy=error.remedy
        ) from None
    compares = token is not None and token.needs_reference
    scores = data.scores if arm.data is None else None
    column = scores is not None and scores.reference_loss is not None
    reads = (
        "reference" in rule.required_fields and not column and isinstance(data, DataConfig)
    )  # instructions may have it
    if arm.reference_model is None and (compares or reads):
        raise SamplewiseError(
            f"{place}.reference_model", expected=f"a second model, which {token if compares else rule} compares with",
            got="none",
            remedy="Name one, for example runs/reference/model, or give data.scores.reference_loss for a sample rule.",
        )  # fmt: skip
    if arm.reference_model is not None and not compares and ("reference" not in rule.required_fields or column):
        got = f"{rule}, which reads data.scores.reference_loss" if column else f"{rule}, which does not"
        raise SamplewiseError(
            f"{place}.reference_model", expected="a rule that reads it", got=got,
            remedy='Use by("excess", ir_dro(r=1)) or token_rule: rho1(keep=0.6), or remove reference_model.',
        )  # fmt: skip

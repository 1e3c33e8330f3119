"""The plan file: arms × seeds under one budget. Read like a run file, key by key. Needs pyyaml."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from itertools import product
from pathlib import Path
from typing import Any, Literal

from samplewise.config import DataConfig, InstructionsConfig
from samplewise.config.settings_file import load_settings
from samplewise.core.errors import SamplewiseError
from samplewise.engine.options import checked_options
from samplewise.engine.plan import Per
from samplewise.engine.weighting import RuleOptions, StepOptions, Weighting, weighting_values
from samplewise.evidence.answers import AnswersConfig
from samplewise.evidence.tasks import TaskConfig
from samplewise.rules.epochs import refuse_epochs

HELD_OUT = "held_out"
"""The name of the set of held-out documents of the plan's own data; the others are the plan's domains."""


@dataclass(frozen=True)
class ScratchConfig:
    """A model with random weights: config as `transformers.AutoConfig.for_model` takes it (model_type and sizes).

    tokenizer: a folder or a hub id; vocabulary and special tokens of the config follow it where they are not given.
    """

    config: dict[str, Any]
    tokenizer: str


@dataclass(frozen=True)
class BudgetConfig:
    """The budget of every arm, one of three kinds.

    steps: optimizer steps. tokens: predicted tokens trained on. compute: units, 1 for a token's forward and 2 for its
    backward, with scoring, rows that are dropped after it and what was spent before training.
    """

    steps: int | None = None
    tokens: int | None = None
    compute: int | None = None


@dataclass(frozen=True)
class PriorConfig:
    """Tokens spent before an arm's first step: scored (1 unit each), trained on (3 each; a reference model)."""

    scored: int = 0
    trained: int = 0

    @property
    def units(self) -> int:
        """The cost in units of compute: 1 per scored token, 3 per token trained on."""
        return self.scored + 3 * self.trained


@dataclass(frozen=True, kw_only=True)
class ArmConfig(RuleOptions):
    """The options of an arm; None and {} take those of the plan.

    rule, token_rule, reference_model: may hold {seed}, which becomes the seed's number. training: on top of the plan's.
    token_rule, reference_model, loss_from: as in a run file. per, normalize, pool: in place of the plan's.
    data: the path of a training corpus of its own, such as a selection, without the plan's scores and what it holds
    out: copies of those documents, and records whose field doc_id names one; evaluated on the plan's held-out documents
    anyway. prior: what was spent for it before.
    """

    rule: str = "uniform()"
    training: dict[str, Any] = field(default_factory=dict)
    per: Per | None = None
    normalize: Literal["step", "micro"] | None = None
    pool: int | None = None
    data: str | None = None
    prior: PriorConfig = field(default_factory=PriorConfig)

    def under(self, seed: int) -> ArmConfig:
        """The options of the arm under a seed, with {seed} filled in."""
        own = {name: getattr(self, name) for name in ("rule", "token_rule", "reference_model")}
        return replace(self, **{name: text and text.replace("{seed}", str(seed)) for name, text in own.items()})


@dataclass(frozen=True)
class DomainConfig:
    """Other text that the arms are evaluated on, never trained on. documents, windows: how many, and of each."""

    path: str
    text_field: str = "text"
    documents: int = 200
    windows: int | None = None
    name: str | None = None
    split: str = "train"


@dataclass(frozen=True)
class ControlsConfig:
    """The default controls. rates: the control at these multiples of its learning rate; random: for every selecting
    arm a random selection of the same share.
    """

    rates: list[float] = field(default_factory=lambda: [0.5, 2.0])
    random: bool = True


@dataclass(frozen=True)
class SweepConfig:
    """A grid over numbers of one rule: rule holds {name}s, values gives each name its numbers."""

    rule: str
    values: dict[str, list[float]]


@dataclass(frozen=True, kw_only=True)
class PlanConfig(StepOptions):
    """The plan of a comparison: a model, data, a budget and the arms.

    model: a hub id, a folder, a .gguf file, or a mapping for random weights (different ones under every seed). arms:
    a rule, or a mapping as `ArmConfig`, by name. control: the arm that the others are compared with, added as
    uniform() where it is not among them. evaluations: how many during training, evenly over the budget. min_effect:
    the half-width of interval, in nats/token, for which the seeds needed are told. sweep: arms made from a grid.
    labels: a file of labels of the corpus, as `samplewise corrupt` writes; what each gets is counted, no rule sees it.
    tasks, answers: benchmarks and written answers, measured after training. per, normalize, pool, max_nonfinite,
    logits: of every arm that has none of its own, as in `samplewise.engine.weighting`. training: as in a run file, its
    seed apart, which is each of seeds in turn.
    """

    model: str | ScratchConfig
    data: DataConfig | InstructionsConfig
    budget: BudgetConfig
    output: str
    arms: dict[str, str | ArmConfig] = field(default_factory=dict)
    seeds: list[int] = field(default_factory=lambda: [0, 1, 2])
    control: str = "uniform"
    controls: ControlsConfig = field(default_factory=ControlsConfig)
    domains: dict[str, DomainConfig] = field(default_factory=dict)
    tasks: list[TaskConfig] = field(default_factory=list)
    answers: AnswersConfig | None = None
    evaluations: int = 1
    min_effect: float = 0.005
    sweep: SweepConfig | None = None
    labels: str | None = None
    training: dict[str, Any] = field(default_factory=dict)


def load_plan(path: str | Path, overrides: Iterable[str] = ()) -> PlanConfig:
    """The plan that a YAML file describes; overrides and errors as in `load_config`."""
    plan = load_settings(PlanConfig, path, overrides)
    _check(plan)
    for name, arm in arms_of(plan).items():
        _check_arm(f"arms.{name}", arm.under(plan.seeds[0]), plan)
    return plan


def arms_of(plan: PlanConfig) -> dict[str, ArmConfig]:
    """The arms that the plan names, with the control first."""
    given = {name: ArmConfig(rule=arm) if isinstance(arm, str) else arm for name, arm in plan.arms.items()}
    if plan.sweep is not None:
        given |= {name: ArmConfig(rule=rule) for name, (rule, _) in grid(plan.sweep).items()}
    return {plan.control: given.pop(plan.control, ArmConfig())} | given


def weighting_of(plan: PlanConfig, arm: ArmConfig) -> Weighting:
    """The weighting options of an arm: those of the plan, replaced by its own."""
    return Weighting(**weighting_values(plan) | weighting_values(arm))


def grid(sweep: SweepConfig) -> dict[str, tuple[str, dict[str, float]]]:
    """The rule and the numbers of each point of the grid, by the name of its arm.

    >>> grid(SweepConfig("ir_dro(r={r})", {"r": [0.5, 1]}))
    {'r=0.5': ('ir_dro(r=0.5)', {'r': 0.5}), 'r=1': ('ir_dro(r=1)', {'r': 1})}
    """
    for name, values in sweep.values.items():
        if f"{{{name}}}" not in sweep.rule or not values:
            raise SamplewiseError(
                f"sweep.values.{name}", expected=f"numbers, and {{{name}}} in the rule", got=repr(sweep.rule),
                remedy="Write it as rule: ir_dro(r={r}), values: {r: [0.3, 1, 3]}, for example.",
            )  # fmt: skip
    points = {}
    for chosen in product(*sweep.values.values()):
        numbers = dict(zip(sweep.values, chosen, strict=True))
        rule = sweep.rule
        for name, value in numbers.items():
            rule = rule.replace(f"{{{name}}}", f"{value:g}")
        points[", ".join(f"{name}={value:g}" for name, value in numbers.items())] = (rule, numbers)
    return points


def _check(plan: PlanConfig) -> None:
    given = [value for value in (plan.budget.steps, plan.budget.tokens, plan.budget.compute) if value is not None]
    if len(given) != 1 or given[0] <= 0:
        raise SamplewiseError(
            "budget", expected="one of steps, tokens and compute, above 0", got=f"{len(given)} of them: {given}",
            remedy="Give exactly one, for example budget: {steps: 100}.",
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
    for key in ("seed", "max_steps", "num_train_epochs"):
        if key in plan.training:
            raise SamplewiseError(
                f"training.{key}", expected="no value here", got=plan.training[key],
                remedy="Remove it: the plan's seeds and budget set it.",
            )  # fmt: skip


def _check_arm(place: str, arm: ArmConfig, plan: PlanConfig) -> None:
    """Refuse, before the first run, what a trainer would refuse in a later one."""
    try:
        options = checked_options(weighting_of(plan, arm))
        rule, token, data = options.rule, options.token_rule, plan.data
        if plan.budget.steps is None:  # nobody knows which share of the run an epoch is
            refuse_epochs(rule, "under a budget of tokens or compute")
    except SamplewiseError as error:
        raise SamplewiseError(
            f"{place}: {error.argument}", expected=error.expected, got=error.got, remedy=error.remedy
        ) from None
    compares = token is not None and token.needs_reference
    scores = data.scores if isinstance(data, DataConfig) and arm.data is None else None
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

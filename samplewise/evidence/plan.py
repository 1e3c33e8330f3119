"""The plan file: arms × seeds under one budget. Read like a run file, key by key. Needs pyyaml."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from itertools import product
from typing import Any, Literal

from samplewise.config import DataConfig, InstructionsConfig
from samplewise.core.errors import SamplewiseError
from samplewise.engine.plan import Per
from samplewise.engine.weighting import RuleOptions, StepOptions, Weighting, weighting_values
from samplewise.evidence.answers import AnswersConfig
from samplewise.evidence.outputs import Measure
from samplewise.evidence.plan_parts import (
    BudgetConfig,
    ControlsConfig,
    DomainConfig,
    FrontsConfig,
    PriorConfig,
    ScratchConfig,
    SweepConfig,
    TuneConfig,
)
from samplewise.evidence.tasks import TaskConfig

HELD_OUT = "held_out"
"""The name of the set of held-out documents of the plan's own data; the others are the plan's domains."""


@dataclass(frozen=True, kw_only=True)
class ArmConfig(RuleOptions):
    """The options of an arm; None and {} take those of the plan.

    rule, token_rule, reference_model: may hold {seed}, which becomes the seed's number. training: on top of the plan's.
    token_rule, reference_model, loss_from: as in a run file. per, normalize, pool: in place of the plan's.
    data: the path of a training corpus of its own, such as a selection, without the plan's scores and what it holds
    out: copies of those documents, and records whose field doc_id names one; evaluated on the plan's held-out documents
    anyway. prior: what was spent for it before. control: the arm that it is compared with, in place of the plan's.
    other_data: says that its training text is not its control's, which is refused otherwise. budget_share: of the
    plan's budget. margin: in nats/token; asks whether it is at most so much worse than its control, not whether better.
    """

    rule: str = "uniform()"
    training: dict[str, Any] = field(default_factory=dict)
    per: Per | None = None
    normalize: Literal["step", "micro"] | None = None
    pool: int | None = None
    data: str | None = None
    prior: PriorConfig = field(default_factory=PriorConfig)
    control: str | None = None
    other_data: bool = False
    budget_share: float = 1.0
    margin: float | None = None

    def under(self, seed: int) -> ArmConfig:
        """The options of the arm under a seed, with {seed} filled in."""
        own = {name: getattr(self, name) for name in ("rule", "token_rule", "reference_model")}
        prior = {name: getattr(self.prior, name) for name in ("scorer", "learner")}

        def filled(texts: dict[str, str | None]) -> dict[str, Any]:
            return {name: text and text.replace("{seed}", str(seed)) for name, text in texts.items()}

        return replace(self, **filled(own), prior=replace(self.prior, **filled(prior)))


@dataclass(frozen=True, kw_only=True)
class PlanConfig(StepOptions):
    """The plan of a comparison: a model, data, a budget and the arms.

    model: a hub id, a folder, a .gguf file, or a mapping for random weights (different ones under every seed). arms:
    a rule, or a mapping as `ArmConfig`, by name. control: the arm that the others are compared with, added as
    uniform() where it is not among them. primary: [arm, control, metric, domain], the one comparison that is fixed
    before the first arm runs, reported first and alone; of several controls the best, of several domains the mean.
    evaluations: how many during training, evenly over the budget. min_effect: the half-width
    of interval, in nats/token, for which the seeds needed are told.
    tune: a grid that every arm is tuned on, on documents of its own. fronts: sets whose losses are compared at equal
    loss on another. sweep: arms made from a grid.
    labels: a file of labels of the corpus, as `samplewise corrupt` writes; what each gets is counted, no rule sees it.
    tasks, answers: benchmarks and written answers, measured after training. measures: of held-out text and domains too:
    the loss at a fitted temperature ("tempered"), the accuracy of the next token. per, normalize, pool, max_nonfinite,
    logits, backend: of every arm that has none of its own, as in `samplewise.engine.weighting`. training: as in a run
    file, its seed apart, which is each of seeds in turn.
    """

    model: str | ScratchConfig
    data: DataConfig | InstructionsConfig
    budget: BudgetConfig
    output: str
    arms: dict[str, str | ArmConfig] = field(default_factory=dict)
    seeds: list[int] = field(default_factory=lambda: [0, 1, 2])
    control: str = "uniform"
    primary: list[str | list[str]] | None = None
    controls: ControlsConfig = field(default_factory=ControlsConfig)
    domains: dict[str, DomainConfig] = field(default_factory=dict)
    tasks: list[TaskConfig] = field(default_factory=list)
    answers: AnswersConfig | None = None
    measures: list[Measure] = field(default_factory=list)
    evaluations: int = 1
    min_effect: float = 0.005
    tune: TuneConfig | None = None
    fronts: FrontsConfig | None = None
    sweep: SweepConfig | None = None
    labels: str | None = None
    training: dict[str, Any] = field(default_factory=dict)


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

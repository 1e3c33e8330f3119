"""One arm under one seed: trained under the budget, measured before, during and after, resumed where it was killed."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from dataclasses import asdict, dataclass, field, replace
from functools import cached_property
from math import isnan
from pathlib import Path
from typing import Any

import numpy as np
import torch

from samplewise.config import DataConfig, InstructionsConfig, RunConfig
from samplewise.core.checkpoint import write_bytes
from samplewise.core.columns import STORED
from samplewise.core.errors import SamplewiseError
from samplewise.core.rule import Rule
from samplewise.engine.options import token_rule_of
from samplewise.engine.staleness import PROBE_SHARE
from samplewise.engine.weighting import weighting_values
from samplewise.evidence.answers import answer_rows
from samplewise.evidence.averaging import averaged
from samplewise.evidence.budget import AtFractions, Budget, BudgetMixin, BudgetTrainer, StopWhenSpent
from samplewise.evidence.controls import Arm, average_of, samples_of_step, scaled_batch
from samplewise.evidence.evaluation_suite import EvaluationSuite
from samplewise.evidence.initial_model import InitialModel
from samplewise.evidence.labels import LabelledCorpus, Labels
from samplewise.evidence.outputs import Outputs
from samplewise.evidence.plan import ArmConfig, PlanConfig, weighting_of
from samplewise.evidence.prices import Prices, prices_of, row_sizes
from samplewise.evidence.run.arguments import over, training_arguments
from samplewise.evidence.run.callbacks import StopOnSignal, TrainingProgress
from samplewise.evidence.run.execute import Stopped, make_sft_trainer, make_trainer, prepare_any
from samplewise.evidence.run.groups import by_name
from samplewise.evidence.run.held_out_set import HeldOutSet, held_out_set_of
from samplewise.evidence.run.prepare import prepare
from samplewise.evidence.run.prepared import Prepared
from samplewise.evidence.slugs import RUNS, before_of, file_of, slug
from samplewise.evidence.tasks import run_tasks
from samplewise.rules import parse_rule
from samplewise.rules.budget import resolve


@dataclass(frozen=True)
class PlanContext:
    """What the runs of a plan share.

    data: the training text of each path, None for the plan's own. corpus: the labelled corpus, where the plan names
    labels. labels: those of the training text of each path.
    """

    plan: PlanConfig
    initial: InitialModel
    suite: EvaluationSuite
    data: dict[str | None, Prepared]
    folder: Path
    corpus: LabelledCorpus | None = None
    labels: dict[str | None, Labels] = field(default_factory=dict)

    def training_text(self, path: str | None) -> Prepared:
        """The training text of an arm, read once."""
        if path not in self.data:
            self.data[path] = self._own_text(replace(self.plan.data, path=str(path)))
        return self.data[path]

    def _own_text(self, data: DataConfig | InstructionsConfig) -> Prepared:
        tokenizer, context = self.initial.tokenizer, self.initial.context
        data = replace(data, scores=None)  # scores belong to the samples of the plan's own text
        if isinstance(data, InstructionsConfig):
            return prepare_any(data, tokenizer, context, negative=self.plan.allow_negative)
        return prepare(data, tokenizer, context, None if data.streaming else self.held_out_set)

    @cached_property
    def held_out_set(self) -> HeldOutSet:
        """The documents that the plan holds out of its text in memory."""
        assert isinstance(self.plan.data, DataConfig)
        return held_out_set_of(self.plan.data, self.data[None].held_out_documents)

    def text_of(self, arm: Arm) -> Prepared:
        """What an arm trains on: of its training text, for an oracle, the documents without a label."""
        data = self.training_text(arm.config.data)
        if arm.role != "oracle":
            return data
        labels = self.labels_of(arm.config.data)
        assert labels is not None, "load_plan refuses an oracle without labels"
        return replace(data, train=labels.clean(data.train))

    def labels_of(self, path: str | None) -> Labels | None:
        """The labels of an arm's training text, found once."""
        if self.corpus is not None and path not in self.labels:
            self.labels[path] = self.corpus.of(self.training_text(path).train, path)
        return self.labels.get(path)


def run_arm(plan_context: PlanContext, arm: Arm, seed: int, say: Callable[[str], object]) -> None:
    """Train and measure an arm, write the file of the run, and remove its checkpoints.

    Errors: SamplewiseError as in training; `Stopped` after Ctrl-C, with a checkpoint saved.
    """
    folder = plan_context.folder / RUNS / slug(f"{arm.name}-{seed}")
    trainer, data = _trainer(plan_context, arm, seed, folder)
    _before(plan_context, trainer, data, seed)
    _add_callbacks(plan_context, trainer, data, folder)
    stop = StopOnSignal()
    trainer.add_callback(stop)
    resumable = bool(list(folder.glob("checkpoint-*/samplewise/complete.json")))
    say(f"{arm.name}, seed {seed}" + (": resuming" if resumable else ""))
    with stop.listening():
        trainer.train(resume_from_checkpoint=True if resumable else None)
    if not trainer.finished:
        if stop.asked:
            raise Stopped("Stopped after saving a checkpoint. Run the same command again to resume.")
        raise SamplewiseError(
            "budget", expected="enough training text", got=f"{trainer.spent:,} of {trainer.budget.amount:,} spent",
            remedy="Lower the budget, or give more text: a stream is read once.",
        )  # fmt: skip
    _save(plan_context, trainer, data, arm, seed, folder)
    shutil.rmtree(folder, ignore_errors=True)
    if stop.asked:  # in its last step
        raise Stopped("Stopped after this run, which is finished. Run the same command again to resume.")


def write_failure(plan_context: PlanContext, arm: Arm, seed: int, error: str) -> None:
    """Write the file of a run that diverged. It is not run again, and the results name it."""
    shutil.rmtree(plan_context.folder / RUNS / slug(f"{arm.name}-{seed}"), ignore_errors=True)
    _write(file_of(plan_context.folder, arm.name, seed), {"arm": arm.name, "seed": seed, "failed": error})


def _trainer(plan_context: PlanContext, arm: Arm, seed: int, folder: Path) -> tuple[BudgetMixin, Prepared]:
    plan, config = plan_context.plan, arm.config
    budget = Budget.of(plan.budget, config.budget_share)
    training: dict[str, Any] = {
        "save_steps": 100, "save_total_limit": 1, "logging_steps": 1, "report_to": "none",
        **over(config.training, plan.training), "seed": seed, **budget.length,
    }  # fmt: skip
    if arm.batch != 1:
        training["per_device_train_batch_size"] = scaled_batch(arm, plan)
    if arm.rate != 1:
        length = plan.data.max_length if isinstance(plan.data, InstructionsConfig) else None
        training["learning_rate"] = arm.rate * training_arguments(training, folder, length).learning_rate
    data = plan_context.text_of(arm)
    weighting = weighting_of(plan, config.under(seed))
    model = plan_context.initial.fresh(seed)
    prices = prices_of(model, data, config.under(seed)) if budget.kind == "flops" else Prices()
    run = RunConfig(
        model="", data=plan.data, output=str(folder), training=training,
        **weighting_values(replace(weighting, rule=_rule(plan_context, arm, seed, data, prices).expression)),
    )  # fmt: skip
    trainer = _made(model, plan_context.initial.tokenizer, data, run, folder)
    trainer.budget, trainer.prior, trainer.prices = budget, config.prior.units, prices
    trainer.row_tokens = 0.0 if trainer.budget.counts_steps else _tokens_of_row(data, plan)
    trainer.recorder.labels = plan_context.labels_of(config.data)
    if trainer.spent_before >= budget.amount:
        raise SamplewiseError(
            f"arms.{arm.name}.prior", expected=f"less than the budget of {budget.amount:,}",
            got=f"{trainer.spent_before:,}", remedy="Raise the budget, or lower prior: nothing is left for training.",
        )  # fmt: skip
    trainer.check_rule()
    return trainer, data


def _made(model: Any, tokenizer: Any, data: Prepared, run: RunConfig, folder: Path) -> BudgetMixin:
    if not isinstance(run.data, InstructionsConfig):
        return make_trainer(model, tokenizer, data, run, folder, BudgetTrainer)
    from samplewise.evidence.budget_sft import BudgetSFTTrainer

    trainer = make_sft_trainer(model, tokenizer, data, run, folder, BudgetSFTTrainer)
    assert isinstance(trainer, BudgetMixin)
    return trainer


def _rule(plan_context: PlanContext, arm: Arm, seed: int, data: Prepared, prices: Prices) -> Rule:
    """The rule with shares of the run resolved to steps, since max_steps is not the length of the run."""
    config, plan = arm.config.under(seed), plan_context.plan
    rule = parse_rule(config.rule)
    budget, prior = (
        Budget.of(plan.budget, config.budget_share).in_units(prices),
        config.prior.units if prices == Prices() else 0,
    )
    if budget.kind == "epochs":
        return resolve(rule, _steps_of_epochs(data, samples_of_step(plan, config) * arm.batch, budget.amount))
    forwards = _scorings(config, rule)
    if config.reference_model is not None:
        forwards += prices.reference / prices.trained if prices.trained else 1.0
    row = 0.0 if budget.counts_steps else _tokens_of_row(data, plan)
    tokens = row * samples_of_step(plan, config) * arm.batch
    steps = budget.nominal_steps(tokens, arm.kept, forwards, prior, arm.chosen)
    if budget.kind != "steps" and rule.epochs is not None and rule.epochs.needs_loss:
        _check_epochs(arm, data, steps * samples_of_step(plan, config) * arm.batch * arm.kept)
    return resolve(rule, steps)


def _steps_of_epochs(data: Prepared, samples: float, epochs: float) -> int:
    """About how many steps so many epochs have. Errors: SamplewiseError on a stream, which has none."""
    if not hasattr(data.train, "__len__"):
        raise SamplewiseError(
            "budget.epochs", expected="text of known length", got="a stream", remedy="Use budget: {tokens: …}."
        )
    return max(1, round(len(data.train) / samples * epochs))


def _check_epochs(arm: Arm, data: Prepared, samples: float) -> None:
    """Refuse a budget that ends before any loss of an earlier epoch is known."""
    rows = len(data.train) if hasattr(data.train, "__len__") else 0  # the trainer refuses a stream
    names = getattr(data.train, "column_names", None) or getattr(data.train, "columns", {})  # of a Dataset, of windows
    if samples <= rows and STORED not in names:
        raise SamplewiseError(
            f"arms.{arm.name}.rule", expected=f"a budget of more than one epoch ({rows:,} samples)",
            got=f"one of about {samples:,.0f}", remedy="Raise the budget: losses become known in the first epoch.",
        )  # fmt: skip


def _tokens_of_row(data: Prepared, plan: PlanConfig) -> float:
    """The mean number of predicted tokens, in which budgets count; of a stream, the most that a row can have."""
    if hasattr(data.train, "__len__"):
        return float(np.mean([predicted for _, predicted in row_sizes(data.train)]))
    return plan.data.max_length - 1.0


def _scorings(config: ArmConfig, rule: Rule) -> float:
    """Forward passes per step that score: none, one, or a share of one with stored losses."""
    token = token_rule_of(rule, config.token_rule)
    free = (token is None or token.reweighs) and not rule.needs_loss
    one_pass = rule.pointwise and (token is None or token.scope == "sample")
    return PROBE_SHARE if config.loss_from == "stored" else 0.0 if free or one_pass else 1.0


def _before(plan_context: PlanContext, trainer: BudgetMixin, data: Prepared, seed: int) -> None:
    path = before_of(plan_context.folder, seed, plan_context.initial.seeded)
    if not path.exists():
        path.parent.mkdir(parents=True, exist_ok=True)
        _write(path, {"sets": _measured(plan_context.suite, trainer, data, "before")})


def _add_callbacks(plan_context: PlanContext, trainer: BudgetMixin, data: Prepared, folder: Path) -> None:
    def measure(k: int) -> None:
        values = {"step": trainer.history.steps, "spent": trainer.spent}
        _write(_during(folder, k), {**values, "sets": _measured(plan_context.suite, trainer, data, "during")})

    if not trainer.budget.counts_steps:
        trainer.remove_callback(TrainingProgress)  # it counts steps
    trainer.add_callback(StopWhenSpent(trainer))
    folder.mkdir(parents=True, exist_ok=True)
    trainer.add_callback(AtFractions(trainer, plan_context.plan.evaluations, measure))


def _during(folder: Path, k: int) -> Path:
    return folder / f"during-{k}.json"


def _save(plan_context: PlanContext, trainer: BudgetMixin, data: Prepared, arm: Arm, seed: int, folder: Path) -> None:
    count = plan_context.plan.evaluations
    labelled = {} if trainer.recorder.labels is None else {"labelled": trainer.recorder.labels.documents}
    outputs: dict[str, Outputs] = {}
    wanted = outputs if plan_context.plan.measures else None
    after = _measured(plan_context.suite, trainer, data, "after", wanted)
    result = {
        "arm": arm.name,
        "seed": seed,
        "rule": trainer.rule.expression,
        "learning_rate": trainer.args.learning_rate,
        "spent": trainer.spent,
        "prior": trainer.prior,
        **({"prices": asdict(trainer.prices)} if trainer.budget.kind == "flops" else {}),
        "history": _history(trainer, data),
        "gradient_norm": [entry["grad_norm"] for entry in trainer.state.log_history if "grad_norm" in entry],
        "during": [json.loads(_during(folder, k).read_text()) for k in range(1, count + 1)],
        "after": after,
        "more": _more(plan_context, trainer) | _outputs(plan_context, outputs),
        **labelled,
    }
    average = average_of(plan_context.plan)
    if plan_context.plan.controls.average and arm.role in ("control", "average"):
        path = file_of(plan_context.folder, average, seed)
        if not path.exists():
            _write(path, {**result, "arm": average, "during": _averaged(plan_context, trainer, data, seed)})
    if arm.role != "average":
        _write(file_of(plan_context.folder, arm.name, seed), result)


def _averaged(plan_context: PlanContext, trainer: BudgetMixin, data: Prepared, seed: int) -> list[dict[str, Any]]:
    """In place of the evaluations during training, those of the trained model's growing share in an average."""
    start, count = plan_context.initial.fresh(seed), plan_context.plan.evaluations
    found = []
    for k in range(1, count + 1):
        with averaged(trainer.model, start, k / (count + 1)):  # pyright: ignore[reportArgumentType]
            sets = _measured(plan_context.suite, trainer, data, f"average {k}")
        found.append({"step": trainer.history.steps, "spent": trainer.spent, "sets": sets})
    return found


def _history(trainer: BudgetMixin, data: Prepared) -> dict[str, Any]:
    """The history as JSON values: groups by name, null before a group was seen."""
    paths = by_name(trainer.history.groups, data.counts)
    groups = {name: [None if isnan(weight) else weight for weight in path] for name, path in paths.items()}
    return asdict(trainer.history) | {"groups": groups}


def _more(plan_context: PlanContext, trainer: BudgetMixin) -> dict[str, Any]:
    """The benchmarks and the written answers of the trained model."""
    plan, tokenizer, size = plan_context.plan, plan_context.initial.tokenizer, trainer.args.per_device_eval_batch_size
    autocast = torch.bfloat16 if trainer.args.bf16 else None
    found = run_tasks(trainer.model, tokenizer, plan.tasks, batch_size=size, autocast=autocast) if plan.tasks else {}
    if plan.answers is not None:
        found["answers"] = answer_rows(trainer.model, tokenizer, plan.answers, batch_size=size, autocast=autocast)
    return found


def _outputs(plan_context: PlanContext, outputs: dict[str, Outputs]) -> dict[str, Any]:
    """What the plan measures of the outputs beside the loss, by set."""
    sets, measures = plan_context.suite.sets, plan_context.plan.measures
    return {name: found.by_document(sets[name], measures) for name, found in outputs.items()}


def _measured(
    suite: EvaluationSuite, trainer: BudgetMixin, data: Prepared, title: str, outputs: dict[str, Outputs] | None = None
) -> dict[str, Any]:
    return {name: found.to_json() for name, found in suite.measure(trainer, data, title, outputs).items()}


def _write(path: Path, values: dict[str, Any]) -> None:
    write_bytes(path, json.dumps(values, allow_nan=False).encode())

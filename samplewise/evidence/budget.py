"""A trainer that ends when its budget is spent, with a learning rate that follows the fraction spent."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor
from torch.optim.lr_scheduler import LambdaLR
from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments

from samplewise.core.errors import SamplewiseError
from samplewise.core.rule import State
from samplewise.core.samples import Samples
from samplewise.evidence.plan_parts import BudgetConfig
from samplewise.evidence.prices import Prices
from samplewise.evidence.run.history import History
from samplewise.evidence.run.trainer import HistoryMixin, RunTrainer

NOMINAL = 10_000
"""Steps that a schedule over tokens or compute is asked for at, whole or not: its resolution does not matter."""
EPOCH = 1e-9
"""The rounding of fractions of an epoch."""
ENDLESS = 10**9
"""max_steps where the budget ends training."""


@dataclass(frozen=True)
class Budget:
    """The budget of an arm, in epochs, steps, trained tokens, units of compute or FLOPs."""

    kind: Literal["epochs", "steps", "tokens", "compute", "flops"]
    amount: float

    @staticmethod
    def of(config: BudgetConfig, share: float = 1.0) -> Budget:
        """The amount of the budget that is given, or a share of it."""
        if config.epochs is not None:
            return Budget("epochs", share * config.epochs)
        if config.steps is not None:
            return Budget("steps", max(1, round(share * config.steps)))
        if config.tokens is not None:
            return Budget("tokens", round(share * config.tokens))
        if config.flops is not None:
            return Budget("flops", round(share * config.flops))
        return Budget("compute", round(share * (config.compute or 0)))

    @property
    def length(self) -> dict[str, Any]:
        """The fields of the training arguments that set the length of the run."""
        if self.kind == "epochs":
            return {"max_steps": -1, "num_train_epochs": self.amount}
        return {"max_steps": int(self.amount) if self.counts_steps else ENDLESS}

    @property
    def counts_steps(self) -> bool:
        """Whether the Trainer itself knows how long the run is, in steps or epochs."""
        return self.kind in ("steps", "epochs")

    def nominal_steps(self, tokens: float, kept: float, forwards: float, prior: int, chosen: float = 1.0) -> int:
        """About how many steps it pays for, exactly for a budget of steps: what shares of the run are shares of.

        tokens: of a step's samples before any is dropped; kept: the share of them trained on; forwards: passes over
        all of them without gradient; chosen: the share of the kept samples' tokens that a token rule leaves.
        """
        if self.kind == "steps":
            return int(self.amount)
        price = kept * chosen * tokens if self.kind == "tokens" else (forwards + 3 * kept) * tokens
        left = self.amount - (prior if self.kind == "compute" else 0)
        return max(1, round(left / price))

    def in_units(self, prices: Prices) -> Budget:
        """Of FLOPs, what they pay for after what came before, in units of the trained model; the others as they are."""
        if self.kind != "flops":
            return self
        return Budget("compute", round((self.amount - prices.prior) / prices.trained))

    def spent(self, history: History, prior: int, prices: Prices) -> int:
        """The amount spent so far. prior: units spent before training."""
        if self.kind == "steps":
            return history.steps
        if self.kind == "flops":
            return round(prices.spent(history.units, history.reference))
        return history.tokens if self.kind == "tokens" else history.units + prior


class BudgetMixin(HistoryMixin):
    """A run's trainer under a budget, overspent by less than one step.

    Set `budget`, `prior` units of what was spent before, and under a budget of FLOPs `prices`, then train. The
    schedule of the learning rate runs over what is left after what was spent before.
    """

    budget: Budget
    prior: int = 0
    prices: Prices = Prices()
    row_tokens: float = 0.0  # the mean over the rows, for rules that decide once an epoch

    @property
    def spent(self) -> float:
        """The amount of the budget spent so far."""
        if self.budget.kind == "epochs":
            return self.budget.amount if self.finished else self.state.epoch or 0.0
        return self.budget.spent(self.history, self.prior, self.prices)

    @property
    def spent_before(self) -> int:
        """The amount of the budget spent before the first step."""
        return {"compute": self.prior, "flops": round(self.prices.prior)}.get(self.budget.kind, 0)

    @property
    def own_fraction(self) -> float:
        """The share of its own training that an arm has done, 0 to 1."""
        prior = self.spent_before
        return min(1.0, (self.spent - prior) / max(1, self.budget.amount - prior))

    @property
    def finished(self) -> bool:
        """Whether all of the budget is spent."""
        if self.budget.kind == "epochs":  # of which a rule may shorten some, so that their fractions are rough
            return 0 < self.state.max_steps <= self.state.global_step
        return self.spent >= self.budget.amount

    def _done(self, number: int, samples: Samples, begun: Callable[[Tensor], State]) -> Tensor:
        """As in `EpochsMixin`, of a run whose length is in tokens, compute or FLOPs: by what the rows before cost."""
        if self.budget.counts_steps:
            return super()._done(number, samples, begun)
        epochs = self.engine.rule.epochs
        assert epochs is not None
        stays = epochs.keeps(samples.id, begun(torch.zeros(len(samples), dtype=torch.float64))).double()
        price = {"tokens": 1.0, "compute": 3.0}.get(self.budget.kind, 3 * self.prices.trained) * self.row_tokens
        return self.own_fraction + (stays.cumsum(0) - stays) * price / (self.budget.amount - self.spent_before)

    def create_scheduler(self, num_training_steps: int, optimizer: Any = None) -> Any:
        """The schedule of the Trainer, over the fraction of the budget instead of steps."""
        if self.budget.counts_steps:
            return super().create_scheduler(num_training_steps, optimizer)
        self._check_warmup()
        scheduler = super().create_scheduler(NOMINAL, optimizer)
        if type(scheduler) is not LambdaLR:
            raise SamplewiseError(
                "training.lr_scheduler_type", expected="a function of progress, unless the budget is one of steps",
                got=type(scheduler).__name__, remedy="Use linear, cosine or constant, for example.",
            )  # fmt: skip
        scheduler.lr_lambdas = [self._followed(shape) for shape in scheduler.lr_lambdas]
        return scheduler

    def _followed(self, shape: Callable[..., float]) -> Callable[[int], float]:
        return lambda step: shape(self.own_fraction * NOMINAL)

    def _check_warmup(self) -> None:
        if self.args.warmup_steps >= 1:
            raise SamplewiseError(
                "training.warmup_steps", expected="a share below 1, unless the budget is one of steps",
                got=self.args.warmup_steps, remedy="Use a share: 0.05 warms up over a twentieth of the budget.",
            )  # fmt: skip

    def _init_training_state(
        self, max_steps: int, num_update_steps_per_epoch: int, num_train_epochs: int, *args: Any, **kwargs: Any
    ) -> tuple[int, int]:
        """As in `CheckpointsMixin`, and past the end where the checkpoint was written when the budget was spent."""
        place = super()._init_training_state(max_steps, num_update_steps_per_epoch, num_train_epochs, *args, **kwargs)
        return (num_train_epochs, 0) if self.finished else place


class BudgetTrainer(BudgetMixin, RunTrainer):
    """A `RunTrainer` that stops when its budget is spent."""


class StopWhenSpent(TrainerCallback):
    """Ends training after the step that reaches the budget."""

    def __init__(self, trainer: BudgetMixin) -> None:
        self.trainer = trainer

    def on_step_end(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any) -> None:
        """Stop training if the budget is spent."""
        if self.trainer.finished:
            control.should_training_stop = True


class AtFractions(TrainerCallback):
    """Calls `measure(k)` after the step with which k/(count + 1) of the budget is reached, for k = 1 … count."""

    def __init__(self, trainer: BudgetMixin, count: int, measure: Callable[[int], object]) -> None:
        self.trainer, self.count, self.measure = trainer, count, measure
        self.reached = 0

    def _now(self) -> int:
        share = self.trainer.spent / self.trainer.budget.amount
        return min(self.count, int(share * (self.count + 1) + EPOCH))

    def on_train_begin(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        """Resume from the fraction stored in the checkpoint."""
        self.reached = self._now() if state.global_step else 0

    def on_step_end(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any) -> None:
        """Measure once for every fraction that this step reached."""
        now = self._now()
        for k in range(self.reached + 1, now + 1):
            self.measure(k)
        self.reached = now

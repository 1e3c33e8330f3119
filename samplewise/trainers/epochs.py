"""Rules that decide once an epoch, in the host's loop: its order, its steps, its learning rate and where it resumes."""

from __future__ import annotations

import logging
import math
import sys
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor
from torch.optim.lr_scheduler import LambdaLR
from transformers import Trainer

from samplewise.core.rule import Epoch, State
from samplewise.core.samples import Samples
from samplewise.engine.options import WeightingOptions
from samplewise.engine.step import Step
from samplewise.trainers.order import (
    EpochOrder,
    check_data,
    check_last_step_of_epoch,
    check_length,
    columns_of_rows,
    refused,
)

logger = logging.getLogger("samplewise")

_Host = Trainer if TYPE_CHECKING else object


class EpochsMixin(_Host):
    """Gives a rule's epochs their order. Does nothing for rules that have none.

    Such an epoch has fewer steps than the host counts on. A run of `max_steps` takes these all, over more epochs; one
    of `num_train_epochs` takes fewer, and its learning rate follows the rows gone through, with those left out.
    """

    options: WeightingOptions
    engine: Step
    _position: tuple[int, int] | None
    _rows: Callable[[], int]
    _order: EpochOrder | None = None
    _began = 0  # the global step at which the epoch in hand began
    _goes_on = False  # whether the next epoch to begin is the rest of one that a checkpoint was written in
    _places = torch.zeros(0, dtype=torch.int64)  # where the rows of the epoch in hand stand in the host's order

    def check_rule(self) -> None:
        """The checks of every rule, and those of rules that decide once an epoch. Errors: SamplewiseError."""
        super().check_rule()  # pyright: ignore[reportAttributeAccessIssue]
        if self.options.rule.epochs is not None:
            check_data(self)
            check_length(self, self.options.rule.epochs)
            check_last_step_of_epoch(self)

    def get_train_dataloader(self, *args: Any, **kwargs: Any) -> Any:
        """The Trainer's own loader, whose sampler must be the one made here."""
        self._order = None
        self._loader = super().get_train_dataloader(*args, **kwargs)
        if self.options.rule.epochs is not None and self._order is None:
            raise refused("_get_train_sampler", "the Trainer's, or one that calls it", "one that does not")
        return self._loader

    def _get_train_sampler(self, *args: Any, **kwargs: Any) -> Any:
        """The host's, or that of a subclass of it, without what the rule leaves out."""
        sampler = super()._get_train_sampler(*args, **kwargs)
        if self.options.rule.epochs is None or sampler is None:
            return sampler
        dataset = args[0] if args else kwargs.get("train_dataset")
        self._ids, self._given = columns_of_rows(self.train_dataset if dataset is None else dataset)
        seed = self.args.seed if self.args.data_seed is None else self.args.data_seed
        self._order = EpochOrder(sampler, seed, self._begin_epoch)
        return self._order

    # ---- how long the run is, and where it goes on ----

    def set_initial_training_values(self, args: Any, *more: Any, **kwargs: Any) -> Any:
        """The host's, but for the number of epochs that `max_steps` need, which nobody knows beforehand."""
        epochs, *values = super().set_initial_training_values(args, *more, **kwargs)
        return (sys.maxsize if self.options.rule.epochs is not None and args.max_steps > 0 else epochs, *values)

    def _init_training_state(
        self, max_steps: int, num_update_steps_per_epoch: int, num_train_epochs: int, *args: Any, **kwargs: Any
    ) -> tuple[int, int]:
        place = super()._init_training_state(max_steps, num_update_steps_per_epoch, num_train_epochs, *args, **kwargs)
        if self._order is None:
            return place
        accumulated = self.args.gradient_accumulation_steps
        if self._position is not None and self.state.global_step < max_steps:
            place = self._position[0], 0 if self.args.ignore_data_skip else self._position[1] * accumulated
        self._full_steps = num_update_steps_per_epoch
        self._order.set_epoch(place[0])  # accelerate's loader that skips batches does not pass it on over ranks
        self._began = self.state.global_step - place[1] // accumulated
        self._goes_on = place[1] > 0 and self.engine.same_rule
        return place

    def _data_position(self) -> tuple[int, int] | None:
        """Epochs before this one, and steps taken in it."""
        if self._order is None:
            return super()._data_position()  # pyright: ignore[reportAttributeAccessIssue]
        steps = self.state.global_step - self._began
        return (self._order.epoch, steps) if steps < self._steps() else (self._order.epoch + 1, 0)

    def _steps(self) -> int:
        """How many optimizer steps the current epoch has."""
        return max(1, math.ceil(len(self._loader) / self.args.gradient_accumulation_steps))

    # ---- an epoch ----

    def _begin_epoch(self, number: int, order: list[int]) -> list[int]:
        """The rows of this epoch; the rule has then decided, unless it had when the checkpoint was written."""
        assert self._order is not None
        epochs, rows = self.engine.set_total_steps(self.state.max_steps).epochs, torch.tensor(order)
        assert epochs is not None, "resolving a rule changes its numbers only"
        ids = self._ids[rows]
        if not self._goes_on:
            self._began, samples = self.state.global_step, self._remembered(rows)
            done = self._done(
                number, samples, lambda done: epochs.begin(Epoch(number, samples, done), self.engine.state)
            )
            self.engine.begin_epoch(Epoch(number, samples, done))
        self._goes_on = False
        stays = epochs.keeps(ids, self.engine.state)
        self._whole = len(order)
        self._due = self._whole if self.args.max_steps > 0 else _due(self.args.num_train_epochs - number, self._whole)
        self._places = stays[: self._due].nonzero().squeeze(1)
        self._order.rows = len(self._places)
        if self.args.max_steps <= 0 and number + 1 >= self.args.num_train_epochs:
            self.state.max_steps = self._began + self._steps()  # known at last: the host saves and evaluates there
        self.engine.figures.note({"epoch_kept": len(self._places) / self._due})
        logger.info("epoch %d: %d of %d samples", number, len(self._places), self._due)
        return rows[self._places].tolist()

    def _remembered(self, rows: Tensor) -> Samples:
        """All rows, each with the loss of its last visit, else of its column, else NaN."""
        assert self.engine.history is not None
        ids = self._ids[rows]
        loss, _ = self.engine.history.memory.look_up(ids)
        if self._given is not None:
            loss = torch.where(loss.isfinite(), loss, self._given[rows])
        return Samples(loss, torch.ones_like(ids), ids)

    def _done(self, number: int, samples: Samples, begun: Callable[[Tensor], State]) -> Tensor:
        """[N] the share of the run that lies before each row.

        Of `max_steps` it depends on how many rows before it stay: those that do if the epoch is one like any other, up
        to where it no longer is.
        """
        if self.args.max_steps <= 0:
            return (number + torch.arange(len(samples)).double() / len(samples)) / self.args.num_train_epochs
        epochs = self.engine.rule.epochs
        assert epochs is not None
        stays = epochs.keeps(samples.id, begun(torch.zeros(len(samples), dtype=torch.float64))).long()
        before = (stays.cumsum(0) - stays) // self._rows()
        return (self._began + before).double() / self.args.max_steps

    def _pace(self) -> None:
        """Move the learning rate, before the Trainer does, to where it would be after as much data without dropping."""
        if self._order is None or self.args.max_steps > 0 or not isinstance(self.lr_scheduler, LambdaLR):
            return
        taken, steps = self.state.global_step + 1 - self._began, self._steps()
        at = math.ceil(taken * len(self._places) / steps)
        gone = int(self._places[at]) if at < len(self._places) else self._due
        full = round(gone / self._whole * self._full_steps)
        self.lr_scheduler.last_epoch = self._order.epoch * self._full_steps + full - 1


def _due(epochs: float, rows: int) -> int:
    """How many rows an epoch has when so many epochs are left."""
    return max(1, round(min(1.0, epochs) * rows))

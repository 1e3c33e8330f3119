"""The Trainer's micro-batches of a step, as its data loading hands them over, and where in the data a run stands."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

from transformers import Trainer

from samplewise.core.micro_batch import MicroBatch
from samplewise.engine.options import WeightingOptions
from samplewise.engine.step import Step
from samplewise.trainers.checks import check_batch, ended_before_a_step, warn_if_eos_is_masked
from samplewise.trainers.values import stored_losses

logger = logging.getLogger("samplewise")

NO_DATA_MESSAGE = "does not contain any data"  # accelerate, of a stream without rows that one rank reads for all

_Host = Trainer if TYPE_CHECKING else object


class BatchesMixin(_Host):
    """Reads a step's micro-batches; a stream that ends within a step, and one that has no length, are seen to here."""

    options: WeightingOptions
    _position: tuple[int, int] | None
    _looked = False  # whether the first batch was checked
    _told = False  # whether the engine was told of the data
    engine: Step
    _streams = False

    def _step_of_batches(
        self, epoch_iterator: Iterator[Any], asked: int, *args: Any, **kwargs: Any
    ) -> tuple[list[Any], int, Any]:
        """(micro-batches, how many the Trainer counts, its number of items); none where it will make no step of them.

        Errors: SamplewiseError for data that has not even one step.
        """
        try:
            batches, num_items = super().get_batch_samples(epoch_iterator, *args, **kwargs)
        except ValueError as error:
            if NO_DATA_MESSAGE in str(error) and self.state.global_step == 0:
                raise ended_before_a_step(0, asked) from None
            raise
        missing = (
            asked - len(batches) if self.options.rule.epochs is not None else 0
        )  # an epoch's last step is stepped on
        if batches and len(batches) + missing >= asked:
            return batches, len(batches) + missing, num_items
        if self.state.global_step == 0:  # of a stream that short the host would make no step, over and over
            raise ended_before_a_step(len(batches), asked)
        if batches:
            logger.info(
                "the stream ended with %d of the %d micro-batches of a step, which were left out", len(batches), asked
            )
        return [], len(batches), num_items

    def _begin_data(self) -> None:
        """Once a run, of data whose rows can be asked for, and a rule that learns from all of them."""
        if not self._told and self.options.rule.begin_data is not None:
            stored = stored_losses(self.train_dataset)
            if stored is not None:
                self.engine.begin_data(stored)
        self._told = True

    def _read(self, batches: list[Any]) -> Sequence[dict[str, Any] | MicroBatch]:
        """A step's micro-batches as the engine takes them."""
        given = [dict(self._prepare_inputs(batch)) for batch in batches]
        self._look(given)
        return given

    def _look(self, batches: list[dict[str, Any]]) -> None:
        for batch in batches:
            check_batch(batch)
        if not self._looked:
            self._looked = True
            warn_if_eos_is_masked(batches[0], self)

    # ---- where the data stands ----

    def _init_training_state(
        self, max_steps: int, num_update_steps_per_epoch: int, num_train_epochs: int, *args: Any, **kwargs: Any
    ) -> tuple[int, int]:
        """Where the Trainer resumes: (epochs, micro-batches of this one), corrected in two cases that it gets wrong.

        A stream has no length, so that the host takes every step for one of its first pass; and after the last step
        it would take one more.
        """
        place = super()._init_training_state(max_steps, num_update_steps_per_epoch, num_train_epochs, *args, **kwargs)
        self._streams = num_train_epochs > 1 and num_update_steps_per_epoch == max_steps
        if self.state.global_step >= max_steps:
            return num_train_epochs, 0
        if self._streams and self._position and not self.args.ignore_data_skip:
            return self._position[0], self._position[1] * self.args.gradient_accumulation_steps
        return place

    def _data_position(self) -> tuple[int, int] | None:
        """Of a stream: the passes before the current one, and the steps taken in it."""
        if not self._streams or self.state.epoch is None:
            return None
        passes = int(self.state.epoch)  # the host adds to it the share of max_steps taken in this pass
        return passes, round((self.state.epoch - passes) * self.state.max_steps)

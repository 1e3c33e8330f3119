"""Weights in Lightning's `Trainer`: a callback; its loop, accumulation, clipping, precision and checkpoints stay."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from typing import Any

import torch
from lightning.pytorch import Callback  # pyright: ignore[reportMissingImports]
from torch import Tensor, nn

from samplewise import __version__
from samplewise.core.micro_batch import MicroBatch
from samplewise.core.rule import Rule
from samplewise.engine.base_weights import TokenMean
from samplewise.engine.figures import PREFIX
from samplewise.engine.modes import RetryInTwoPasses
from samplewise.engine.observers import Observer
from samplewise.engine.options import WeightingOptions
from samplewise.engine.saving import restore, saved
from samplewise.engine.step import Step
from samplewise.rules.epochs import refuse_epochs
from samplewise.trainers.collate import split_into_turns
from samplewise.trainers.lightning_checks import check_optimizers, check_returned, check_trainer, not_called
from samplewise.trainers.reference_model import with_loaded_reference

MEAN = TokenMean("micro_batch")  # Lightning averages what training_step returns over the step's batches


class WeightingCallback(Callback):
    """Trains a `LightningModule` on weighted samples, exact over `accumulate_grad_batches` and ranks.

    rule, and every other field of `samplewise.engine.options.WeightingOptions` by name. observers: see every finished
    step (`samplewise.engine.observers`).
    Batches are dicts as `WeightedStep` takes them. `loss` keeps those of a step until the last has come, then plans and
    runs them all; what it returns is all that `training_step` may return as the loss. The gradient is divided
    `on_before_optimizer_step`, before clipping. The state is part of Lightning's checkpoints.
    Errors: SamplewiseError on what cannot be combined with sample weighting; where ranks differ, on all of them.

    ```python
    class Weighted(LightningModule):
        def __init__(self, model):
            super().__init__()
            self.model, self.weighting = model, WeightingCallback("ir_dro(r=3.0)")

        def configure_callbacks(self):
            return [self.weighting]

        def training_step(self, batch, batch_idx):
            return self.weighting.loss(self.model, batch)
    ```
    """

    def __init__(self, rule: Rule | str, *, observers: Iterable[Observer] = (), **options: Any) -> None:
        self.options = with_loaded_reference(WeightingOptions(rule=rule, **options))
        refuse_epochs(self.options.rule, "in Lightning")
        self.engine = Step(self.options, torch.device("cpu"), observers)
        self._trainer: Any = None
        self._model: nn.Module | None = None
        self._held: list[Mapping[str, Any] | MicroBatch] = []
        self._returned: Tensor | None = None

    # ---- a run ----

    def setup(self, trainer: Any, pl_module: Any, stage: str) -> None:
        """Forget an earlier run, unless this one continues it; a checkpoint's state is loaded after that."""
        if stage == "fit":
            check_trainer(trainer, pl_module)
            self._trainer, self.engine.device = trainer, trainer.strategy.root_device
            if trainer.global_step == 0:
                self.engine.begin()

    def on_train_start(self, trainer: Any, pl_module: Any) -> None:
        """Begin after the steps that were taken: by this callback, or by a plain run's checkpoint."""
        engine, total = self.engine, trainer.estimated_stepping_batches
        check_optimizers(trainer.optimizers)
        if engine.steps == 0 and trainer.global_step > 0:
            engine.skip_to(trainer.global_step, "the checkpoint")
        engine.check_ranks({"samplewise": __version__, "accumulate_grad_batches": trainer.accumulate_grad_batches})
        if engine.steps == 0:
            engine.claim()
        if 0 < total < math.inf:
            engine.set_total_steps(int(total))
        engine.start()

    def on_train_epoch_start(self, trainer: Any, pl_module: Any) -> None:
        """Forget the batches of a step that the epoch before was stopped in: Lightning zeroes their gradient too."""
        self._held.clear()

    # ---- one optimizer step ----

    def loss(self, model: nn.Module, batch: Mapping[str, Any] | MicroBatch) -> Tensor:
        """[] the loss to return from `training_step`: 0 until the step's last batch, then what its backward completes.

        model: the causal LM itself, which the LightningModule holds. batch: as `training_step` gets it.
        """
        trainer = self._trainer
        if trainer is None or self not in trainer.callbacks:
            raise not_called("callbacks")
        self._held.append(batch)
        index, accumulated = trainer.fit_loop.batch_idx + 1, trainer.accumulate_grad_batches
        if index % accumulated and not trainer.is_last_batch and index != trainer.num_training_batches:
            loss = torch.zeros((), device=self.engine.device, requires_grad=True)
        else:
            loss = self._run(model) * accumulated  # which Lightning divides by
        self._returned = loss
        return loss

    def _run(self, model: nn.Module) -> Tensor:
        """Forward and backward of all micro-batches of the step, but for the last one's backward."""
        engine = self.engine
        if self._model is not model:
            engine.attach(model)
            self._model = model
        given, self._held = self._held, []
        given = [split_into_turns(batch) for batch in given] if self.options.turns else given  # pyright: ignore
        try:
            return self._last(model, engine.prepare(model, given, mean=MEAN))
        except RetryInTwoPasses as reason:
            self._trainer.lightning_module.zero_grad()
            return self._last(model, engine.retry(model, reason))

    def _last(self, model: nn.Module, micro_batches: list[MicroBatch]) -> Tensor:
        """The last one's objective. DDP reduces nothing before its forward has ended: the others add up on a rank."""
        for micro in micro_batches:
            objective = self.engine.loss(model, micro)
            if micro.last:
                return objective
            with torch.autocast(objective.device.type, enabled=False):  # training_step runs inside autocast
                self._trainer.lightning_module.backward(objective)
        raise AssertionError("a step has a last micro-batch")

    def on_before_backward(self, trainer: Any, pl_module: Any, loss: Tensor) -> None:
        """Errors: SamplewiseError where `training_step` returned something else than what `loss` gave it."""
        check_returned(loss, None if self._returned is None else self._returned / trainer.accumulate_grad_batches)
        self._returned = None

    def on_before_optimizer_step(self, trainer: Any, pl_module: Any, optimizer: Any) -> None:
        """Divide the gradient, take the rule's new state, and log the figures."""
        result = self.engine.finish(pl_module.parameters)
        self.log_dict({PREFIX + "loss": result.loss, **self.engine.figures.take()})

    # ---- checkpoints, and the end ----

    def state_dict(self) -> dict[str, Any]:
        """The rule's state and the number of steps: numbers and tensors, for Lightning's checkpoint."""
        self.engine.flush()
        return saved(self.engine)

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Resume from a checkpoint. The state of another rule is left alone, and the log says so."""
        restore(self.engine, state_dict)

    def on_train_end(self, trainer: Any, pl_module: Any) -> None:
        """Give the model its own forward back, and write what the sample log holds back."""
        self._held, self._model = [], None
        self.engine.flush()
        self.engine.detach()

    def on_exception(self, trainer: Any, pl_module: Any, exception: BaseException) -> None:
        """The same where a run ends with an error."""
        self.on_train_end(trainer, pl_module)

"""Weights in `transformers.Trainer`: a thin host of the engine, no copied loop, exact over the whole optimizer step."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path
from typing import Any, cast

import torch
from torch import Tensor, nn
from transformers import Trainer

from samplewise.core.micro_batch import MicroBatch
from samplewise.core.rule import Rule, State
from samplewise.engine.base_weights import TokenMean
from samplewise.engine.modes import RetryInTwoPasses
from samplewise.engine.options import split_options
from samplewise.engine.result import StepResult
from samplewise.engine.step import Step
from samplewise.losses.sharded import in_pieces
from samplewise.trainers.accelerators import autocast, discard_gradients
from samplewise.trainers.batches import BatchesMixin
from samplewise.trainers.checkpoints import CheckpointsMixin
from samplewise.trainers.checks import check_micro_batch, outside_of_train, refuse_options, refuse_own_steps
from samplewise.trainers.epochs import EpochsMixin
from samplewise.trainers.loading import LoadingMixin
from samplewise.trainers.model_card import ModelCardMixin
from samplewise.trainers.reference_model import with_loaded_reference
from samplewise.trainers.signature import weighted_signature
from samplewise.trainers.starting import StartingMixin
from samplewise.trainers.zero import gather_head, has_deepspeed

MICRO_BATCH_KEY = "samplewise"
"""Where a micro-batch stands among the inputs that the Trainer hands around; None in one that is never run."""
FREED_INPUTS: dict[str, Any] = {MICRO_BATCH_KEY: None, "input_ids": torch.empty(0, 0, dtype=torch.int64)}
"""A freed micro-batch: counted by the Trainer, never run."""


class WeightedMixin(ModelCardMixin, EpochsMixin, LoadingMixin, CheckpointsMixin, BatchesMixin, StartingMixin):
    """Makes any subclass of `transformers.Trainer` train on weighted samples: `class T(WeightedMixin, MyTrainer)`.

    Beside the Trainer's own arguments it takes those of `samplewise.engine.options.WeightingOptions` by name: `rule`,
    `per`, `pool`, `turns`, `token_rule`, `reference_model`, `loss_from`, `log_samples`, and so on; and
    `observers`, which see every finished step (`samplewise.engine.observers`).
    The columns sample_id, sample_weight, group, reference_loss, stored_loss (one value a sample) and token_weights (one
    a token) of the data reach the step. Evaluation is always the Trainer's plain loss.
    Rules whose weights follow from each sample alone run in one pass; others score the step without gradient, then
    train on the rows of positive weight, re-dealt into as few micro-batches as possible. The Trainer still counts every
    micro-batch: `global_step` and the learning rate are those of a plain run.
    Errors: SamplewiseError naming an option that cannot be combined with sample weighting.
    """

    # Coefficients sum to 1 over the step: nothing is left for the host to divide. None where it knows of no such thing.
    loss_is_scaled_for_ga = True if hasattr(Trainer, "loss_is_scaled_for_ga") else None
    _allowed_hosts: tuple[str, ...] = ("transformers.",)  # whose compute_loss is replaced in training

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        cls.__signature__ = weighted_signature(cls, WeightedMixin)

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        options, kwargs = split_options(kwargs)
        observers = kwargs.pop("observers", ())
        self.options = with_loaded_reference(options)
        super().__init__(*args, **kwargs)
        self.engine = Step(self.options, self.args.device, observers)
        refuse_options(self)
        refuse_own_steps(self, WeightedMixin, self._allowed_hosts)
        self.engine.reference.check(self.model)  # pyright: ignore[reportArgumentType]
        if options.normalize == "micro":
            check_micro_batch(self.args.train_batch_size)

    @property
    def rule(self) -> Rule:
        """The rule as it was given; in `engine.rule` shares of the run are steps, once these are known."""
        return self.options.rule

    @property
    def rule_state(self) -> State:
        """The state of the rule after the last finished step."""
        return self.engine.state

    # ---- a run ----

    def train(
        self, resume_from_checkpoint: str | bool | None = None, trial: Any = None, *args: Any, **kwargs: Any
    ) -> Any:
        """The Trainer's `train`, during which its model returns sample losses."""
        checkpoint = self._checkpoint(resume_from_checkpoint)
        if trial is None:  # else its arguments are checked once the Trainer has set them
            self.check_rule()
        if checkpoint is None:
            self.engine.claim(trial)
        try:
            return super().train(checkpoint, trial, *args, **kwargs)
        finally:
            self.engine.flush()

    def _begin(self, checkpoint: Path | None) -> None:
        super()._begin(checkpoint)
        self._looked = self._told = False
        self.engine.start()

    def _attach(self) -> None:
        model: Any = self.model
        sharded = any(in_pieces(parameter) for parameter in model.parameters())  # trained before, or loaded so
        checked = not (self.is_fsdp_enabled or self.is_deepspeed_enabled)
        head = "sharded" if sharded else "whole"
        self.engine.attach(model, head=head, check=checked, compiles=self.args.torch_compile)
        gather_head(model, self.accelerator)

    # ---- one optimizer step ----

    def get_batch_samples(self, epoch_iterator: Iterator[Any], *args: Any, **kwargs: Any) -> tuple[list[Any], Any]:
        """The Trainer's micro-batches, planned, and exactly as many: freed ones are placeholders in front."""
        asked = kwargs.get("num_batches", args[0] if args else 1)
        batches, counted, num_items = self._step_of_batches(epoch_iterator, asked, *args, **kwargs)
        if not batches:
            return [FREED_INPUTS] * counted, num_items
        self.engine.set_total_steps(self.state.max_steps)
        self._begin_data()
        given = self._read(batches)
        with autocast(self.accelerator):
            rescalable, model = not has_deepspeed(self.accelerator), cast("nn.Module", self.model_wrapped)
            trained = self.engine.prepare(model, given, mean=self._token_mean(num_items), can_rescale=rescalable)
        return [FREED_INPUTS] * (counted - len(trained)) + [_inputs(micro) for micro in trained], num_items

    def _token_mean(self, num_items: Any) -> TokenMean:
        """How the Trainer averages over tokens. Its count is not ours where a model's labels do not shift for it."""
        if not self.model_accepts_loss_kwargs:
            return TokenMean("micro_batch")
        over = "step" if self.args.average_tokens_across_devices else "rank"
        shifted = bool(getattr(self, "_loss_shifts_labels", False))
        return TokenMean(over, num_items, shifted)

    def training_step(self, model: nn.Module, inputs: dict[str, Any], *args: Any, **kwargs: Any) -> Tensor:
        """The Trainer's step on one micro-batch; what comes back sums to the unweighted mean loss over the step."""
        if MICRO_BATCH_KEY not in inputs:
            raise outside_of_train()
        micro, nothing = inputs[MICRO_BATCH_KEY], torch.zeros((), device=self.args.device)
        if micro is None:
            return nothing
        self._num_items = args[0] if args else kwargs.get("num_items_in_batch")  # an override may not hand it on
        with self.engine.clock.timed("train"):
            try:
                super().training_step(model, inputs, *args, **kwargs)
            except RetryInTwoPasses as reason:
                for again in self._retried(model, reason):
                    with nullcontext() if again.last else self.accelerator.no_sync(model):
                        super().training_step(model, _inputs(again), *args, **kwargs)
        if not micro.last:
            return nothing
        result = self.engine.finish(model.parameters)
        self._finished(result)
        return torch.tensor(result.loss, device=self.args.device)

    def _retried(self, model: nn.Module, reason: RetryInTwoPasses) -> list[MicroBatch]:
        """Discard the step's gradients, and run the same micro-batches in two passes."""
        discard_gradients(model, reason, self.accelerator)
        with autocast(self.accelerator):
            return self.engine.retry(self.model_wrapped, reason)  # pyright: ignore[reportArgumentType]

    def _finished(self, result: StepResult) -> None:
        """Called when the step's gradient is complete: sets the learning rate of an epoch that leaves samples out."""
        self._pace()

    def compute_loss(self, model: nn.Module, inputs: dict[str, Any], *args: Any, **kwargs: Any) -> Any:
        """Σ coefficient × sample loss over this micro-batch while training; the Trainer's plain loss otherwise."""
        micro = inputs.get(MICRO_BATCH_KEY)
        if micro is None:
            return super().compute_loss(model, inputs, *args, **kwargs)
        prepared = {key: inputs[key] for key in micro.inputs}  # once more, by the Trainer: to another dtype, say
        with autocast(self.accelerator):  # the Trainer's own is missing where a model is trained a second time
            objective = self.engine.loss(model, replace(micro, inputs=prepared))
        return objective * self._host_divisor()

    def _host_divisor(self) -> int:
        """What the Trainer divides `compute_loss` by (older ones without asking `loss_is_scaled_for_ga`)."""
        counted = self.model_accepts_loss_kwargs and self._num_items is not None
        scaled = hasattr(Trainer, "loss_is_scaled_for_ga") or counted
        return 1 if scaled else self.current_gradient_accumulation_steps

    # ---- figures ----

    def log(self, logs: dict[str, float], *args: Any, **kwargs: Any) -> None:
        """The Trainer's log, with this library's figures beside the training loss."""
        super().log({**logs, **self.engine.figures.take()} if "loss" in logs else logs, *args, **kwargs)

    def evaluate(self, *args: Any, **kwargs: Any) -> dict[str, float]:
        """The Trainer's evaluation; its loss is compared with the training loss since the one before."""
        metrics = super().evaluate(*args, **kwargs)
        loss = metrics.get("eval_loss")
        if loss is not None and self.is_in_train:
            self.engine.watcher.on_evaluation(self.state.global_step, loss)
        return metrics


def _inputs(micro: MicroBatch) -> dict[str, Any]:
    """What the Trainer hands around: the model's inputs, and the micro-batch itself."""
    labels = {} if micro.labels is None else {"labels": micro.labels}
    return {**micro.inputs, **labels, MICRO_BATCH_KEY: micro}


class WeightedTrainer(WeightedMixin, Trainer):
    """`transformers.Trainer` on weighted samples: its arguments, and those of `WeightingOptions`.

    ```python
    from samplewise import ir_dro
    from samplewise.trainers import WeightedTrainer

    trainer = WeightedTrainer(model, args, train_dataset=data, rule=ir_dro(r=3.0))
    trainer.train()
    ```
    """

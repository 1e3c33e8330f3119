"""Weights in `transformers.Trainer`: one mixin, no copied loop, exact over the whole optimizer step."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import torch
from accelerate.utils import DistributedType
from torch import Tensor, nn
from transformers import Trainer

from samplewise.core.columns import LAST, MASS, Batch
from samplewise.core.distributed import largest
from samplewise.core.errors import SamplewiseError
from samplewise.core.rule import Rule, State
from samplewise.engine.figures import Figures
from samplewise.engine.modes import Mode, Redo, TwoPass, choose
from samplewise.engine.plan import Per, ShortSteps
from samplewise.engine.rows import is_left_padded
from samplewise.engine.sample_log import SampleLog
from samplewise.losses.forward import Forward, WithoutLogits, model_inputs
from samplewise.losses.own_terms import has_own_term
from samplewise.rules.tokens import TokenRule
from samplewise.trainers.checks import (
    as_rule,
    check_batch,
    check_choice,
    check_limit,
    check_micro_batch,
    ended_before_a_step,
    outside_of_train,
    refuse_options,
    refuse_own_steps,
)
from samplewise.trainers.epochs import EpochsMixin
from samplewise.trainers.loading import LoadingMixin
from samplewise.trainers.losses import LossesMixin
from samplewise.trainers.recording import RecordingMixin
from samplewise.trainers.reference import ReferenceMixin, as_reference, as_token_rule
from samplewise.trainers.remembering import RememberingMixin
from samplewise.trainers.resume import ResumableMixin
from samplewise.trainers.starting import StartingMixin
from samplewise.trainers.watching import WatchingMixin

logger = logging.getLogger("samplewise")

EMPTY = "does not contain any data"  # accelerate, of a stream without rows that one rank reads for all
PLACEHOLDER = "samplewise_placeholder"
BLANK = {PLACEHOLDER: True, "input_ids": torch.empty(0, 0, dtype=torch.int64)}
"""A freed micro-batch: counted by the host, never run."""


class WeightedMixin(
    LossesMixin,
    EpochsMixin,
    LoadingMixin,
    ReferenceMixin,
    WatchingMixin,
    RememberingMixin,
    RecordingMixin,
    ResumableMixin,
    StartingMixin,
):
    """Makes any subclass of `transformers.Trainer` train on weighted samples: `class T(WeightedMixin, MyTrainer)`.

    rule: how the samples of a step are weighed: a Rule or its text. Required.
    per: "sample" (the mean over samples of their mean token losses) or "token" (the mean over tokens; with
        `uniform()` the host's own loss and gradient).
    normalize: "step" (exact over all micro-batches and ranks) or "micro" (per micro-batch and rank, as published
        code does: another estimator, warned about, refused for micro-batches of one row).
    pool: how many times as many candidates are drawn as are trained on, for rules that keep at most 1/pool of them.
        It multiplies the loader's batch, so an epoch still sees every row once.
    max_nonfinite: the largest share of a step's samples that may have a NaN or infinite loss; they are left out.
    logits: "refuse" models whose losses cannot be had without logits, or "allow" the logits, at their price.
    turns: every unbroken run of predicted tokens (an assistant's turn) is a sample of its own; by default a row or,
        where rows are packed, a segment is.
    token_rule: which tokens of a sample count, before the rule weighs samples: a TokenRule or its text, `rho1(…)`.
    reference_model: a second model of the same tokenizer, or its name, run without gradient: for token rules, and for
        rules on excess loss where the data has no column reference_loss. It costs one more forward.
    loss_from: "fresh", or "stored": the rule sees each sample's stored loss, from the column stored_loss, else from its
        last visit, so that rows are chosen before any forward and a step costs its kept share. What has none is scored,
        and so is a random 5%, to compare; while their rank correlation is below `least_stored_corr`, all are.
    log_samples: a folder for the id, step, loss, tokens and weight of every sample (`samplewise.engine.sample_log`).
    The columns sample_id, sample_weight, group, reference_loss (one value a sample) and token_weights (one a token)
    of the data reach the step. Evaluation is always the host's plain loss.
    Rules whose factors follow from each sample alone run in one pass; others score the step without gradient, then
    train on the rows of positive weight, re-dealt into as few micro-batches as possible. The host still counts every
    micro-batch: `global_step` and the learning rate are those of the plain trainer.
    Errors: SamplewiseError on options that weights cannot go together with, by name.
    """

    # Coefficients sum to 1 over the step: nothing is left for the host to divide. None where it knows of no such thing.
    loss_is_scaled_for_ga = True if hasattr(Trainer, "loss_is_scaled_for_ga") else None
    _allowed_hosts: tuple[str, ...] = ("transformers.",)  # whose compute_loss is replaced in training

    def __init__(
        self,
        *args: Any,
        rule: Rule | str | None = None,
        per: Per = "sample",
        normalize: str = "step",
        pool: int = 1,
        max_nonfinite: float = 0.01,
        logits: str = "refuse",
        turns: bool = False,
        token_rule: TokenRule | str | None = None,
        reference_model: nn.Module | str | None = None,
        loss_from: str = "fresh",
        least_stored_corr: float = 0.7,
        log_samples: str | Path | None = None,
        **kwargs: Any,
    ) -> None:
        self.rule = as_rule(rule)
        check_choice("per", per, ("sample", "token"))
        check_choice("normalize", normalize, ("step", "micro"))
        check_choice("logits", logits, ("refuse", "allow"))
        check_choice("turns", turns, (True, False))
        check_choice("loss_from", loss_from, ("fresh", "stored"))
        if isinstance(pool, bool) or not isinstance(pool, int) or pool < 1 or (pool > 1 and normalize == "micro"):
            raise SamplewiseError(
                "pool",
                expected="a whole number of 1 or more, with normalize='step'",
                got=repr(pool),
                remedy="1 is none.",
            )
        check_limit(max_nonfinite)
        self.per, self.normalize, self.pool, self.logits = per, normalize, pool, logits
        self.max_nonfinite, self.turns = max_nonfinite, turns
        self.rule_state: State = self.rule.init()
        self.token_rule, self.reference_model = as_token_rule(token_rule), as_reference(reference_model)
        self.loss_from, self.least_stored_corr = loss_from, least_stored_corr
        self._sample_log = None if log_samples is None else SampleLog(log_samples)
        self._figures = Figures()
        self._forward: Forward = WithoutLogits()
        self._batch: Batch | None = None  # set while a micro-batch is being trained on
        self._last_mode, self._short = "", ShortSteps()
        super().__init__(*args, **kwargs)
        refuse_options(self)
        refuse_own_steps(self, WeightedMixin, self._allowed_hosts)
        self.check_reference()
        self.check_stored()
        if normalize == "micro":
            check_micro_batch(self.args.train_batch_size)

    # ---- one optimizer step ----

    def get_batch_samples(self, epoch_iterator: Iterator[Any], *args: Any, **kwargs: Any) -> tuple[list[Any], Any]:
        """The host's micro-batches, planned, and exactly as many: freed ones are placeholders in front."""
        asked = kwargs.get("num_batches", args[0] if args else 1)
        try:
            batches, num_items = super().get_batch_samples(epoch_iterator, *args, **kwargs)
        except ValueError as error:
            if EMPTY in str(error) and self.state.global_step == 0:
                raise ended_before_a_step(0, asked) from None
            raise
        missing = asked - len(batches) if self.rule.epochs is not None else 0  # an epoch's last step is stepped on
        if not batches or len(batches) + missing < asked:  # a stream ended within the step: the host will not
            if self.state.global_step == 0:  # of a stream that short it would make no step, over and over
                raise ended_before_a_step(len(batches), asked)
            if batches:
                logger.info("the last %d of %d micro-batches of the stream make no step: left out", len(batches), asked)
            return [BLANK] * len(batches), num_items
        prepared = [dict(self._prepare_inputs(batch)) for batch in batches]
        for batch in prepared:
            check_batch(batch)
        self._unpredicted = 0
        if largest(any(is_left_padded(batch) for batch in prepared), self.args.device):
            prepared = self._without_padding(prepared)
        self._first_look(prepared[0])
        self._check_packing(prepared)
        self._with_mass(prepared)
        self._with_reference(prepared)
        self._batches, self._setting = prepared, self._shared(prepared, num_items)
        one_pass = self.accelerator.distributed_type != DistributedType.DEEPSPEED  # it clips inside backward
        self._mode = self._from_store(self._setting, prepared) or choose(
            self._setting,
            normalize=self.normalize,
            one_pass=one_pass,
            own_term=has_own_term(self.model),  # pyright: ignore[reportArgumentType]
        )
        return [BLANK] * missing + self._planned(self._mode), num_items

    def _planned(self, mode: Mode) -> list[Any]:
        with self._figures.clock.timed("rule"), self.accelerator.autocast():
            trained = mode.begin(self.model_wrapped, self._batches)  # pyright: ignore[reportArgumentType]
        return [BLANK] * (len(self._batches) - len(trained)) + trained

    def training_step(self, model: nn.Module, inputs: dict[str, Any], *args: Any, **kwargs: Any) -> Tensor:
        """The host's step on one micro-batch; what comes back sums to the unweighted mean loss over the step."""
        nothing = torch.zeros((), device=self.args.device)
        if PLACEHOLDER in inputs:
            return nothing
        if MASS not in inputs:
            raise outside_of_train()
        with self._figures.clock.timed("train"):
            try:
                self._run(super().training_step, model, inputs, *args, **kwargs)
            except Redo as reason:
                self._redo(reason, super().training_step, model, *args, **kwargs)
            if LAST not in inputs:
                return nothing
            self._mode.end(model.parameters)
        return self._close(self._mode).to(self.args.device)

    def _run(
        self, host_step: Callable[..., Tensor], model: nn.Module, inputs: Batch, *args: Any, **kwargs: Any
    ) -> None:
        """The host's step on the model's inputs, with the rest kept for `compute_loss`."""
        self._batch = inputs
        self._num_items = args[0] if args else kwargs.get("num_items_in_batch")  # an override may not hand it on
        try:
            host_step(model, {**model_inputs(inputs), "labels": inputs["labels"]}, *args, **kwargs)
        finally:
            self._batch = None

    def _redo(
        self, reason: Redo, host_step: Callable[..., Tensor], model: nn.Module, *args: Any, **kwargs: Any
    ) -> None:
        """The one way back: the step's gradients are discarded, and the same micro-batches run in two passes."""
        if self.is_deepspeed_enabled:
            raise SamplewiseError(
                "loss", expected="finite losses, as DeepSpeed's gradients cannot be taken back", got=str(reason),
                remedy="Take a rule that scores first, which leaves such samples out, or clean the data.",
            ) from None  # fmt: skip
        logger.warning("step %d runs again in two passes: %s", self.state.global_step, reason)
        model.zero_grad()
        self._mode = TwoPass(self._setting)
        self._figures.redone += 1
        trained = [inputs for inputs in self._planned(self._mode) if PLACEHOLDER not in inputs]
        for inputs in trained:
            last = LAST in inputs
            with nullcontext() if last else self.accelerator.no_sync(model):
                self._run(host_step, model, inputs, *args, **kwargs)

    def _close(self, mode: Mode) -> Tensor:
        """Take the plan's state and figures; the loss to report."""
        plan = mode.plan
        if plan.nonfinite:
            logger.warning("step %d: non-finite loss, left out: ids %s", self.state.global_step, plan.nonfinite)
        self._short.take(plan.shortfall, self.rule, self.state.global_step)
        if mode.name != self._last_mode:
            logger.info("step %d: rule %s, per %s, mode %s", self.state.global_step, self.rule, self.per, mode.name)
            self._last_mode = mode.name
        self.rule_state = plan.state
        self._figures.add(plan.figures, mode.name)
        self._record(mode)
        self._learn(mode)
        self._pace()
        self._watched(mode)
        return torch.tensor(mode.loss + float(mode.own))

    def compute_loss(self, model: nn.Module, inputs: dict[str, Any], *args: Any, **kwargs: Any) -> Any:
        """Σ coefficient × sample loss over this micro-batch while training; the host's plain loss otherwise."""
        if self._batch is None:
            return super().compute_loss(model, inputs, *args, **kwargs)
        batch = {**self._batch, **inputs}  # the host may have prepared them once more
        with self.accelerator.autocast():  # the host's own is missing where a model is trained a second time
            objective = self._mode.objective(model, batch)
        return objective * self._host_divisor()

    def _host_divisor(self) -> int:
        """What the host divides `compute_loss` by (older ones without asking `loss_is_scaled_for_ga`)."""
        counted = self.model_accepts_loss_kwargs and self._num_items is not None
        scaled = hasattr(Trainer, "loss_is_scaled_for_ga") or counted
        return 1 if scaled else self.current_gradient_accumulation_steps

    # ---- logs ----

    def log(self, logs: dict[str, float], *args: Any, **kwargs: Any) -> None:
        """The host's log, with this library's figures beside the training loss."""
        if "loss" in logs:
            logs = {**logs, **self._figures.flush(), **self._group_figures()}
        super().log(logs, *args, **kwargs)


class WeightedTrainer(WeightedMixin, Trainer):
    """`transformers.Trainer` on weighted samples: its arguments, and those of `WeightedMixin`.

    ```python
    from samplewise import band, chain, ir_dro
    from samplewise.trainers import WeightedTrainer

    trainer = WeightedTrainer(model, args, train_dataset=data, rule=chain(band(drop_top=0.1), ir_dro(r=1.0)))
    trainer.train()
    ```
    """

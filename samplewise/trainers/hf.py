"""Weights in `transformers.Trainer`: one mixin, no copied loop, exact over the whole optimizer step."""

from __future__ import annotations

import logging
import math
from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor, nn
from transformers import Trainer

from samplewise.distributed import gather_fields, largest, world_size
from samplewise.losses import sample_losses
from samplewise.microbatch import Batch, deal, rows
from samplewise.score import score
from samplewise.step import Per, Plan, no_token_in_step, plan_step
from samplewise.trainers.checks import (
    as_rule,
    check_batch,
    check_choice,
    check_collator,
    check_step_size,
    refuse_options,
    warn_if_eos_is_masked,
)
from samplewise.trainers.figures import Figures
from samplewise.trainers.identify import ID, IdentifyingCollator, identified
from samplewise.trainers.micro import MicroStep, check_micro_batch
from samplewise.trainers.resume import ResumableMixin
from samplewise.types import Rule, Samples, State

logger = logging.getLogger("samplewise")

COEFFICIENT = "samplewise_coefficient"  # [B] what each row's sample loss counts in the step
PLACEHOLDER = "samplewise_placeholder"  # a freed micro-batch: counted by the host, never run
REPORT = "samplewise_report"  # [] the step's unweighted mean loss, on its last micro-batch

MICRO = object()  # in place of the report: the step's figures are known only after its last micro-batch


class WeightedMixin(ResumableMixin):
    """Makes any subclass of `transformers.Trainer` train on weighted samples: `class T(WeightedMixin, MyTrainer)`.

    rule: how the samples of a step are weighed: a Rule or its text. Required.
    per: "sample" (the mean over samples of their mean token losses) or "token" (the mean over tokens; with
        `uniform()` the host's own loss and gradient).
    normalize: "step" (exact over all micro-batches and ranks) or "micro" (per micro-batch and rank, as published
        code does: another estimator, warned about, refused for micro-batches of one row).
    max_nonfinite: the largest share of a step's samples that may have a NaN or infinite loss; they are left out.
    Evaluation is always the host's plain loss. Each step is scored without gradient, weighed, and only rows of
    positive weight are trained on, re-dealt into as few micro-batches as possible; the host still counts every
    micro-batch, so `global_step` and the learning rate are those of the plain trainer.
    Errors: SamplewiseError on options that weights cannot go together with, by name.
    """

    loss_is_scaled_for_ga = True  # coefficients sum to 1 over the step: nothing is left for the host to divide
    _allowed_hosts: tuple[str, ...] = ("transformers.",)  # whose compute_loss is replaced in training

    def __init__(
        self,
        *args: Any,
        rule: Rule | str | None = None,
        per: Per = "sample",
        normalize: str = "step",
        max_nonfinite: float = 0.01,
        **kwargs: Any,
    ) -> None:
        self.rule = as_rule(rule)
        check_choice("per", per, ("sample", "token"))
        check_choice("normalize", normalize, ("step", "micro"))
        self.per, self.normalize, self.max_nonfinite = per, normalize, max_nonfinite
        self.rule_state: State = self.rule.init()
        self._figures = Figures()
        self._weigh: Tensor | None = None  # set while a micro-batch is being trained on
        self._micro = MicroStep(self.rule)
        super().__init__(*args, **kwargs)
        refuse_options(self, self._allowed_hosts, self._host_of("compute_loss"))
        if normalize == "micro":
            check_micro_batch(self.args.train_batch_size)

    # ---- before training ----

    def train(self, *args: Any, **kwargs: Any) -> Any:
        """The host's `train`, after a look at whether the rule can work on steps of the configured size."""
        check_collator(self)
        if self._host_of("get_train_dataloader").__module__.startswith(self._allowed_hosts):  # a user's own may differ
            n = self.args.train_batch_size * self.args.gradient_accumulation_steps * world_size()
            check_step_size(self.rule, self._weighed_together(n), self._weighed_together(self._last_step(n)))
        return super().train(*args, **kwargs)

    def _host_of(self, method: str) -> type:
        """The class behind this mixin whose `method` the host runs."""
        after = type(self).__mro__[type(self).__mro__.index(WeightedMixin) + 1 :]
        return next(cls for cls in after if method in vars(cls))

    def _weighed_together(self, n: int) -> int:
        return min(n, self.args.train_batch_size) if self.normalize == "micro" else n

    def _last_step(self, n: int) -> int:
        """How many samples the last, shorter step of an epoch has; 0 if there is none, or no way to know."""
        known = hasattr(self.train_dataset, "__len__")
        return len(self.train_dataset) % n if known and not self.args.dataloader_drop_last else 0  # pyright: ignore

    def get_train_dataloader(self) -> Any:
        """The host's loader, over the same dataset and collator with ids added to rows and batches."""
        dataset, collator = self.train_dataset, self.data_collator
        self.train_dataset, self.data_collator = identified(dataset), IdentifyingCollator(collator)
        try:
            return super().get_train_dataloader()
        finally:
            self.train_dataset, self.data_collator = dataset, collator

    def _set_signature_columns_if_needed(self) -> None:
        super()._set_signature_columns_if_needed()
        if self._signature_columns is not None and ID not in self._signature_columns:
            self._signature_columns.append(ID)

    # ---- one optimizer step ----

    def get_batch_samples(self, epoch_iterator: Iterator[Any], *args: Any, **kwargs: Any) -> tuple[list[Any], Any]:
        """The host's micro-batches with their coefficients, exactly as many: freed ones are placeholders in front."""
        batches, num_items = super().get_batch_samples(epoch_iterator, *args, **kwargs)
        if not batches:
            return batches, num_items
        prepared = [dict(self._prepare_inputs(batch)) for batch in batches]
        for batch in prepared:
            check_batch(batch)
        if self.state.global_step == 0:
            warn_if_eos_is_masked(prepared[0], self.processing_class)
        if self.normalize == "micro":
            return self._micro_batches(prepared), num_items
        return self._two_pass(prepared, num_items), num_items

    def _two_pass(self, batches: list[Batch], num_items: Any) -> list[Any]:
        ids = torch.cat([batch.pop(ID) for batch in batches])
        with self._figures.timed("score"):
            losses, tokens = score(self.model_wrapped, batches, self._sample_losses)
        with self._figures.timed("rule"):
            plan, mine = self._plan(losses, tokens, ids, [len(batch["labels"]) for batch in batches])
            self._take(plan)
            scale = self._host_scale(tokens, num_items)
            trained = self._deal(batches, plan.coefficients[mine] * scale)
        trained[-1][REPORT] = torch.tensor(plan.figures["loss"] * scale)
        blank = {PLACEHOLDER: True, "input_ids": torch.empty(0, 0, dtype=torch.int64)}
        return [blank] * (len(batches) - len(trained)) + trained

    def _plan(self, losses: Tensor, tokens: Tensor, ids: Tensor, sizes: list[int]) -> tuple[Plan, slice]:
        """The plan of the whole step, the same on every rank, and where this rank's samples stand in it."""
        fields = {
            "loss": losses.double(),
            "tokens": tokens.to(torch.int64),
            "id": ids.to(torch.int64),
            "mass": self._mass(tokens, sizes),
        }
        step, mine = gather_fields(fields, self.args.device)
        samples = Samples(step["loss"], step["tokens"], step["id"])
        plan = plan_step(self.rule, samples, self.rule_state, mass=step["mass"], max_nonfinite=self.max_nonfinite)
        return plan, mine

    def _mass(self, tokens: Tensor, sizes: list[int]) -> Tensor:
        """[n] float64: what a sample counts before it is weighed; per token, what it counts in the host's own loss."""
        if self.per == "sample":
            return torch.ones_like(tokens, dtype=torch.float64)
        mass = tokens.double()
        if not self.model_accepts_loss_kwargs:  # the host averages the means of micro-batches
            return torch.cat([part / part.sum().clamp(min=1) for part in mass.split(sizes)])
        if not self.args.average_tokens_across_devices:  # … or of ranks
            return mass / mass.sum().clamp(min=1)
        return mass

    def _host_scale(self, tokens: Tensor, num_items: Any) -> float:
        """Per token, predicted tokens over what the host divides by: it counts first positions too where it does not
        know that the model shifts labels (GPT-2's class name, for one). 1 everywhere else."""
        if self.per == "sample" or not self.model_accepts_loss_kwargs or num_items is None:
            return 1.0
        total = tokens.sum()
        if self.args.average_tokens_across_devices:
            total = gather_fields({"tokens": total.view(1)}, self.args.device)[0]["tokens"].sum()
        return float(total) / float(num_items)

    def _take(self, plan: Plan) -> None:
        if plan.nonfinite:
            logger.warning("step %d: non-finite loss, left out: ids %s", self.state.global_step, plan.nonfinite)
        if self.state.global_step == 0:
            logger.info("rule %s, per %s, mode two_pass", self.rule, self.per)
        self.rule_state = plan.state
        self._figures.add(plan.figures, "two_pass")

    def _deal(self, batches: list[Batch], coefficients: Tensor) -> list[Batch]:
        """The rows of positive coefficient in as few micro-batches as possible, as many on every rank."""
        sizes = [len(batch["labels"]) for batch in batches]
        marked = [
            {**batch, COEFFICIENT: part.to(batch["labels"].device)}
            for batch, part in zip(batches, coefficients.split(sizes), strict=True)
        ]
        kept = int((coefficients > 0).sum())
        count = largest(math.ceil(kept / max(sizes)), self.args.device)
        if kept == len(coefficients) and count == len(batches):
            return marked
        return deal([row for batch in marked for row in rows(batch)], COEFFICIENT, max(sizes), count)

    def training_step(self, model: nn.Module, inputs: dict[str, Any], *args: Any, **kwargs: Any) -> Tensor:
        """The host's step on one micro-batch; what comes back sums to the unweighted mean loss over the step."""
        nothing = torch.zeros((), device=self.args.device)
        if PLACEHOLDER in inputs:
            return nothing
        inputs = dict(inputs)
        self._weigh, report = inputs.pop(COEFFICIENT), inputs.pop(REPORT, None)
        try:
            with self._figures.timed("train"):
                super().training_step(model, inputs, *args, **kwargs)
        finally:
            self._weigh = None
        if report is MICRO:
            report = self._finish_micro()
        return nothing if report is None else report.to(self.args.device)

    def compute_loss(self, model: nn.Module, inputs: dict[str, Any], *args: Any, **kwargs: Any) -> Any:
        """Σ coefficient × sample loss over this micro-batch while training; the host's plain loss otherwise."""
        if self._weigh is None:
            return super().compute_loss(model, inputs, *args, **kwargs)
        ids = inputs.pop(ID, None)
        losses, tokens = self._sample_losses(model, inputs)
        if ids is None:
            coefficients = self._weigh.to(losses)
        else:
            mass = self._mass(tokens, [len(tokens)]).cpu()
            coefficients = self._weigh.to(losses) * self._micro.coefficients(losses, tokens, ids, mass, self.rule_state)
        objective = (coefficients * losses).sum()
        return objective * world_size() * self._host_divisor(kwargs.get("num_items_in_batch"))  # ranks are averaged

    def _sample_losses(self, model: nn.Module, batch: Batch) -> tuple[Tensor, Tensor]:
        inputs = {key: value for key, value in batch.items() if key != "labels"}
        return sample_losses(model(**inputs).logits, batch["labels"])

    def _host_divisor(self, num_items: object) -> int:
        """What the host divides `compute_loss` by (before transformers 5.17 without asking `loss_is_scaled_for_ga`)."""
        scaled = hasattr(Trainer, "loss_is_scaled_for_ga") or (self.model_accepts_loss_kwargs and num_items is not None)
        return 1 if scaled else self.current_gradient_accumulation_steps

    # ---- normalize="micro" ----

    def _micro_batches(self, batches: list[Batch]) -> list[Any]:
        self._micro = MicroStep(self.rule)
        share = torch.tensor(1 / (len(batches) * world_size()))
        marked: list[dict[str, Any]] = [{**batch, COEFFICIENT: share} for batch in batches]
        marked[-1][REPORT] = MICRO
        return marked

    def _finish_micro(self) -> Tensor:
        self.rule_state, figures = self._micro.finish(self.rule_state, self.args.device)
        if not figures:
            raise no_token_in_step()
        self._figures.add(figures, "micro")
        return torch.tensor(figures["loss"])

    # ---- logs ----

    def log(self, logs: dict[str, float], *args: Any, **kwargs: Any) -> None:
        """The host's log, with this library's figures beside the training loss."""
        if "loss" in logs:
            logs = {**logs, **self._figures.flush()}
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

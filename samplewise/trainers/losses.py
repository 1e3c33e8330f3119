"""How the trainer has its losses: the forward that is asked, and what a sample counts before it is weighed."""

from __future__ import annotations

import logging
import math
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from transformers import Trainer

from samplewise.core.columns import MASS, OURS, SEGMENTS, TOKEN_WEIGHTS, Batch
from samplewise.core.distributed import gather_fields, largest, world_size
from samplewise.core.errors import SamplewiseError
from samplewise.core.rule import Rule, State
from samplewise.engine.figures import Figures
from samplewise.engine.modes import Setting
from samplewise.engine.plan import no_token_in_step
from samplewise.engine.rows import is_packed, room, rows, without_padding_as_context
from samplewise.losses.forward import Forward, FromLogits, WithoutLogits, has_dropout
from samplewise.losses.head import attach_objective, check_head, find_head
from samplewise.losses.own_terms import has_own_term, refuse_term_from_logits, refuse_unweighable
from samplewise.losses.packing_check import check_packing
from samplewise.losses.token_losses import token_counts, token_mass
from samplewise.rules import resolve
from samplewise.rules.tokens import TokenRule
from samplewise.trainers.checks import has_parted_head, warn_if_eos_is_masked

logger = logging.getLogger("samplewise")

_Host = Trainer if TYPE_CHECKING else object


class LossesMixin(_Host):
    """Attaches the logits-free objective to the model while a run lasts, and checks it on the first batch."""

    rule: Rule
    rule_state: State
    per: str
    normalize: str
    pool: int
    logits: str
    max_nonfinite: float
    token_rule: TokenRule | None
    _forward: Forward
    _figures: Figures
    _same_rule: bool
    _looked = False
    _unpredicted = 0  # of the step in hand, on this rank: what the host counts, and nothing can predict
    _packing_looked = False
    _run_steps: int | None = None  # as the host counted them when the run began

    def _begin(self, checkpoint: Path | None) -> None:
        if self.normalize == "micro" and has_own_term(self.model):  # pyright: ignore[reportArgumentType]
            raise SamplewiseError(
                "normalize", expected="'step' for a model with a loss term of its own", got="'micro'",
                remedy="Two passes keep the term; output_router_logits=False (a router's) or orth_reg_weight=0 "
                "(AdaLoRA's) trains without it.",
            )  # fmt: skip
        self._looked, self._run_steps, self._figures = False, None, Figures()
        self._packing_looked = False
        super()._begin(checkpoint)  # pyright: ignore[reportAttributeAccessIssue]

    def _attach(self) -> Callable[[], None]:
        """Make the model answer for its losses; what is returned ends that."""
        refuse_unweighable(self.model)  # pyright: ignore[reportArgumentType]
        if has_parted_head(self.accelerator):
            self._take_logits()
            return lambda: None
        try:
            find_head(self.model)  # pyright: ignore[reportArgumentType]
        except SamplewiseError:
            if self.logits == "refuse":
                raise
            self._take_logits()
            return lambda: None
        self._forward = WithoutLogits()
        return attach_objective(self.model)  # pyright: ignore[reportArgumentType]

    def _take_logits(self) -> None:
        refuse_term_from_logits(self.model)  # pyright: ignore[reportArgumentType]
        self._forward = FromLogits()

    def _first_look(self, batch: Batch) -> None:
        """Once a run: does the logits-free path agree with the model's logits, and is anything odd about the data?"""
        if self._looked:
            return
        self._looked = True
        if not is_packed(batch):
            rows({key: value for key, value in batch.items() if key not in OURS})  # refuses what cannot be cut by rows
        warn_if_eos_is_masked(batch, self)
        if has_dropout(self.model):  # pyright: ignore[reportArgumentType]
            logger.info("the model has dropout: one pass weighs losses with it, two passes score without")
        if isinstance(self._forward, WithoutLogits) and not self.is_fsdp_enabled and not self.is_deepspeed_enabled:
            try:
                check_head(self.model, batch)  # pyright: ignore[reportArgumentType]
            except SamplewiseError:
                if self.logits == "refuse":
                    raise
                logger.warning("%s trains from logits", type(self.model).__name__)
                self._take_logits()

    def _without_padding(self, batches: list[Batch]) -> list[Batch]:
        """The micro-batches without first tokens predicted from padding, of which the host has counted some."""
        changed = [without_padding_as_context(batch) for batch in batches]
        gone = [(old["labels"] != new["labels"]).sum() for old, new in zip(batches, changed, strict=True)]
        self._unpredicted = int(torch.stack(gone).sum()) if getattr(self, "_loss_shifts_labels", False) else 0
        return changed

    def _check_packing(self, batches: list[Batch]) -> None:
        """Once a run, before its first packed step; where parameters are sharded, on all ranks in the first step."""
        if self._packing_looked:
            return
        sharded = self.is_fsdp_enabled or self.is_deepspeed_enabled
        packed = next((batch for batch in batches if is_packed(batch)), None)
        self._packing_looked = sharded or packed is not None
        if largest(packed is not None, self.args.device) if sharded else packed is not None:
            model: Any = self.model_wrapped if sharded else self.model
            tally, self._forward.tally = self._forward.tally, None  # TRL's metrics are of what is trained on
            with self.accelerator.autocast():
                check_packing(model, packed or batches[0], self._forward.token_losses)
            self._forward.tally = tally

    def _with_mass(self, batches: list[Batch]) -> None:
        """Add to each micro-batch what its samples count: 1 each, or per token what they count in the host's loss."""
        counts = [_mass(batch).double().cpu() for batch in batches]
        rank = torch.stack([count.sum() for count in counts]).sum().clamp(min=1)
        for batch, count in zip(batches, counts, strict=True):
            if self.per == "sample":
                batch[MASS] = torch.ones_like(count)
            elif not self.model_accepts_loss_kwargs:  # the host averages the means of micro-batches
                batch[MASS] = count / count.sum().clamp(min=1)
            else:  # the mean over all tokens, or the mean of the ranks' means
                batch[MASS] = count if self.args.average_tokens_across_devices else count / rank

    def _running_rule(self) -> Rule:
        """The rule with shares of the run as steps; how long the run is, the host knows once it has begun."""
        first = self._run_steps is None
        self._run_steps = self._run_steps or self.state.max_steps
        rule = resolve(self.rule, self._run_steps)
        if rule is not self.rule and first and not self._same_rule:
            self.rule_state = rule.init()
        return rule

    def _shared(self, batches: list[Batch], num_items: Any) -> Setting:
        configured = self._train_batch_size * self.args.gradient_accumulation_steps * world_size()
        unit, scale = float(configured), 1.0
        if self.per == "token" and self.model_accepts_loss_kwargs and num_items is not None:
            tokens = torch.stack([_counts(batch).sum().cpu() for batch in batches]).sum().view(1)
            gone = torch.tensor([self._unpredicted])
            if self.args.average_tokens_across_devices:
                every, _ = gather_fields({"tokens": tokens, "gone": gone}, self.args.device)
                tokens, gone, unit = every["tokens"], every["gone"], float(num_items)
            counted = float(num_items) - float(gone.sum())
            if counted <= 0:
                raise no_token_in_step()
            scale = float(tokens.sum()) / counted  # not 1 where the host does not know that labels shift: GPT-2
        size = max(room(batch) for batch in batches)
        return Setting(
            self._running_rule(), self.rule_state, self._forward, self.args.device, math.ceil(size / self.pool),
            self.max_nonfinite, unit, scale, self._figures.clock, self.token_rule, self.per == "token",
        )  # fmt: skip


def _counts(batch: Batch) -> Any:
    return token_counts(batch["labels"], batch.get(TOKEN_WEIGHTS), batch.get(SEGMENTS))


def _mass(batch: Batch) -> Any:
    return token_mass(batch["labels"], batch.get(TOKEN_WEIGHTS), batch.get(SEGMENTS))

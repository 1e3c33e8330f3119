"""Weights in a training loop of one's own, on `accelerate` or on bare PyTorch (one process, DDP or FSDP2)."""

from __future__ import annotations

import logging
import math
from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from samplewise import __version__
from samplewise.core.checkpoint import load_state, save_state
from samplewise.core.columns import ID, LAST, MASS, SEGMENTS, TOKEN_WEIGHTS, Batch
from samplewise.core.distributed import check_same, gather_fields, largest, rank
from samplewise.core.errors import SamplewiseError
from samplewise.core.rule import Rule, State
from samplewise.engine.modes import Mode, Redo, Setting, TwoPass, choose
from samplewise.engine.plan import Per, ShortSteps
from samplewise.engine.rows import is_left_padded, is_packed, room, without_padding_as_context
from samplewise.losses.forward import Forward, FromLogits, WithoutLogits
from samplewise.losses.head import attach_objective, check_head, find_head
from samplewise.losses.own_terms import has_own_term, refuse_term_from_logits, refuse_unweighable
from samplewise.losses.packing_check import check_packing
from samplewise.losses.token_losses import token_mass
from samplewise.rules.epochs import refuse_epochs
from samplewise.trainers.checks import as_rule, check_choice, check_limit

logger = logging.getLogger("samplewise")


class WeightedStep:
    """Plans one optimizer step at a time over all its micro-batches and ranks, and divides its gradient once.

    model: ready to train: after `accelerator.prepare`, or wrapped in DDP, or sharded by `fully_shard`, if at all. Its
        `forward` learns to answer for losses; `detach()` undoes that.
    rule, per, pool, max_nonfinite, logits: as in `WeightedMixin`. accelerator: accelerate's, if the loop has one.
    Micro-batches are dicts with input_ids [B, T], labels [B, T] (not shifted, −100 where nothing is predicted),
    sample_id [n] int64 and, if there are any, attention_mask and the data's columns. A row with left padding is
    understood from its mask.
    Errors: SamplewiseError on what weights cannot go together with, by name; where ranks differ, on all of them.

    ```python
    step = WeightedStep(model, "chain(band(drop_top=0.1), ir_dro(r=1.0))")
    for batches in steps:  # a list of micro-batches for each optimizer step, as many on every rank
        for micro in step.plan(batches):
            step.backward(micro)
        figures = step.finish()  # loss (unweighted), weighted_loss, ess, kept, …
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad()
    ```
    """

    def __init__(
        self,
        model: nn.Module,
        rule: Rule | str,
        *,
        accelerator: Any = None,
        per: Per = "sample",
        pool: int = 1,
        max_nonfinite: float = 0.01,
        logits: str = "refuse",
    ) -> None:
        self.model, self.rule, self.accelerator = model, as_rule(rule), accelerator
        refuse_epochs(self.rule, "in a loop of your own")
        check_choice("per", per, ("sample", "token"))
        check_choice("logits", logits, ("refuse", "allow"))
        check_limit(max_nonfinite)
        self.per, self.pool, self.max_nonfinite, self.logits = per, pool, max_nonfinite, logits
        if accelerator is not None:
            _check_accelerator(accelerator)
        self.state: State = self.rule.init()
        self.steps = 0
        self._inner: nn.Module = getattr(model, "module", model)
        self._sharded = any(hasattr(parameter, "full_tensor") for parameter in model.parameters())
        self.forward: Forward = WithoutLogits()
        self.detach = self._attach()
        self._mode: Mode | None = None
        self._looked = False
        self._short = ShortSteps()
        self._packing_looked = False

    # ---- one optimizer step ----

    def plan(self, batches: Sequence[Mapping[str, Tensor]]) -> Iterator[Batch]:
        """The micro-batches to give to `backward`, one by one: of those given, at most as many, on all ranks as many.

        Gradients must be zero before. Where factors turn out to be of no use (a loss that is not finite, an overflow)
        they are set to zero, and the same micro-batches follow once more in two passes.
        """
        prepared = [dict(batch) for batch in batches]
        setting = self._setting(prepared)
        self._mode = choose(setting, own_term=has_own_term(self._inner))
        self._again: Redo | None = None
        yield from self._begun(self._mode, prepared)
        if self._again is not None:
            logger.warning("step %d runs again in two passes: %s", self.steps, self._again)
            self.model.zero_grad()
            self._mode = TwoPass(setting)
            yield from self._begun(self._mode, prepared)

    def backward(self, micro: Batch) -> None:
        """Forward and backward of one micro-batch; gradients meet over ranks in the step's last."""
        assert self._mode is not None, "micro comes from plan"
        with self._meeting(LAST in micro):
            try:
                with self._autocast():
                    objective = self._mode.objective(self.model, micro)
            except Redo as reason:
                self._again = reason
                return
            (objective.backward if self.accelerator is None else lambda: self.accelerator.backward(objective))()
        self._left -= 1

    def finish(self) -> dict[str, float]:
        """Divide the gradient, before any clipping; take the rule's new state. Returns the step's figures."""
        if self._mode is None or self._left:
            raise SamplewiseError(
                "finish", expected="every micro-batch of plan(…) given to backward", got="some that were not",
                remedy="for micro in step.plan(batches): step.backward(micro)",
            )  # fmt: skip
        mode, self._mode = self._mode, None
        mode.end(self.model.parameters)
        if mode.plan.nonfinite:
            logger.warning("step %d: non-finite loss, left out: ids %s", self.steps, mode.plan.nonfinite)
        self._short.take(mode.plan.shortfall, self.rule, self.steps)
        self.state, self.steps = mode.plan.state, self.steps + 1
        return {**mode.plan.figures, "passes": 2.0 if isinstance(mode, TwoPass) else 1.0}

    def _begun(self, mode: Mode, batches: list[Batch]) -> list[Batch]:
        with self._autocast():
            micro = mode.begin(self.model, batches)
        self._left = len(micro)
        return micro

    def _setting(self, batches: list[Batch]) -> Setting:
        device = next(self.model.parameters()).device
        for batch in batches:
            _check(batch)
            batch |= {key: value.to(device) for key, value in batch.items() if isinstance(value, Tensor)}
            batch[MASS] = self._mass(batch)
        unit, left = _compared(batches, device)
        if left:  # the first token of a padded row is then no longer predicted, and not to be counted
            batches[:] = [without_padding_as_context(batch) for batch in batches]
            for batch in batches:
                batch[MASS] = self._mass(batch)
        self._first_look(batches[0], device)
        self._check_packing(batches, device)
        size = math.ceil(max(room(batch) for batch in batches) / self.pool)
        return Setting(self.rule, self.state, self.forward, device, size, self.max_nonfinite, unit)

    def _mass(self, batch: Batch) -> Tensor:
        """[n] what its samples count before they are weighed."""
        mass = token_mass(batch["labels"], batch.get(TOKEN_WEIGHTS), batch.get(SEGMENTS)).double().cpu()
        return mass if self.per == "token" else torch.ones_like(mass)

    def _attach(self) -> Any:
        refuse_unweighable(self._inner)
        if not self._sharded:  # else whole inside the forward only, where it is looked at
            try:
                find_head(self._inner)
            except SamplewiseError:
                if self.logits == "refuse":
                    raise
                refuse_term_from_logits(self._inner)
                self.forward = FromLogits()
                return lambda: None
        return attach_objective(self._inner)

    def _first_look(self, batch: Batch, device: torch.device) -> None:
        if self._looked:
            return
        self._looked = True
        facts = {"rule": self.rule.expression, "per": self.per, "pool": self.pool, "steps": self.steps}
        facts |= {"max_nonfinite": self.max_nonfinite, "samplewise": __version__, "torch": torch.__version__}
        check_same({name: str(value) for name, value in facts.items()}, device)
        if isinstance(self.forward, WithoutLogits) and not self._sharded:
            check_head(self._inner, batch)

    def _check_packing(self, batches: list[Batch], device: torch.device) -> None:
        """Before the first packed step; where parameters are sharded, on all ranks in the first step."""
        if self._packing_looked:
            return
        packed = next((batch for batch in batches if is_packed(batch)), None)
        self._packing_looked = self._sharded or packed is not None
        if largest(packed is not None, device) if self._sharded else packed is not None:
            with self._autocast():
                model = self.model if self._sharded else self._inner
                check_packing(model, packed or batches[0], self.forward.token_losses)

    def _meeting(self, last: bool) -> AbstractContextManager[Any]:
        """Gradients are averaged over ranks in the last backward of a step only."""
        if self.accelerator is not None:
            return nullcontext() if last else self.accelerator.no_sync(self.model)
        if hasattr(self.model, "set_requires_gradient_sync"):  # fully_shard
            self.model.set_requires_gradient_sync(last)  # pyright: ignore[reportCallIssue]
            return nullcontext()
        return nullcontext() if last or not hasattr(self.model, "no_sync") else self.model.no_sync()  # pyright: ignore

    def _autocast(self) -> AbstractContextManager[Any]:
        return nullcontext() if self.accelerator is None else self.accelerator.autocast()

    # ---- checkpoints ----

    def state_dict(self) -> dict[str, Any]:
        """The rule's state and the number of steps: numbers and tensors. For `accelerator.register_for_checkpointing`.

        accelerate writes it with pickle and reads it with `weights_only=False`; `save` and `load` do neither.
        """
        return {"rule": self.rule.expression, "steps": self.steps, "state": dict(self.state)}

    def load_state_dict(self, saved: Mapping[str, Any]) -> None:
        """Go on from there. The state of another rule is left alone, and said so."""
        self.steps = saved["steps"]
        if saved["rule"] == self.rule.expression:
            self.state = dict(saved["state"])
        else:
            logger.warning("the checkpoint's rule is %s: %s starts from its first state", saved["rule"], self.rule)

    def save(self, folder: str | Path) -> None:
        """Write the state into `folder`/samplewise as JSON and safetensors, from the first rank.

        `samplewise.core.checkpoint.mark_complete(folder)`, when all else is in the folder too, makes it one to `load`.
        """
        if rank() == 0:
            save_state(Path(folder), self.state, {"rule": self.rule.expression, "steps": self.steps})

    def load(self, folder: str | Path) -> None:
        """Go on from what `save` wrote. Errors: SamplewiseError if it is not complete, or has changed."""
        saved = load_state(Path(folder))
        if saved is None:
            raise SamplewiseError(
                "folder", expected="a checkpoint", got=str(folder), remedy="Name one that save wrote."
            )
        self.load_state_dict({"state": saved[0], **saved[1]})


def _check_accelerator(accelerator: Any) -> None:
    kind = str(getattr(accelerator.distributed_type, "value", accelerator.distributed_type))
    if kind in ("DEEPSPEED", "MEGATRON_LM"):
        raise SamplewiseError(
            "accelerator", expected="DDP, FSDP2 or one process", got=kind,
            remedy="It steps inside backward. With DeepSpeed take WeightedTrainer, in two passes.",
        )  # fmt: skip
    if accelerator.gradient_accumulation_steps != 1:
        raise SamplewiseError(
            "gradient_accumulation_steps", expected="1: plan(…) is given all micro-batches of a step",
            got=accelerator.gradient_accumulation_steps, remedy="Leave it out of Accelerator(…).",
        )  # fmt: skip


def _check(batch: Mapping[str, Any]) -> None:
    for key in ("labels", ID):
        if key not in batch:
            raise SamplewiseError(
                "batches", expected=f"micro-batches with '{key}'", got=f"the keys {sorted(batch)}",
                remedy="Number the rows, and collate with samplewise.trainers.collate.FieldsCollator(your_collator)."
                if key == ID else "Give the labels as the model takes them.",
            )  # fmt: skip


def _compared(batches: list[Batch], device: torch.device) -> tuple[float, bool]:
    """What the step's samples count on all ranks together, and whether any row of theirs is padded on the left."""
    mass = torch.stack([batch[MASS].sum() for batch in batches]).sum()
    counts = torch.tensor([len(batches), int(any(is_left_padded(batch) for batch in batches))])
    every, _ = gather_fields({"mass": mass.view(1), "count": counts[:1], "left": counts[1:]}, device)
    if len(set(every["count"].tolist())) > 1:
        raise SamplewiseError(
            "batches", expected="as many micro-batches on every rank", got=every["count"].tolist(),
            remedy="Leave out an epoch's last step where it is not full on all ranks.",
        )  # fmt: skip
    return max(1.0, float(every["mass"].sum())), bool(every["left"].any())

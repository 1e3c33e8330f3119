"""Weights in a loop of one's own, on `accelerate`, Lightning Fabric or bare PyTorch (one process, DDP or FSDP2)."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from functools import partial
from pathlib import Path
from typing import Any

from torch import Tensor, nn

from samplewise import __version__
from samplewise.core.micro_batch import MicroBatch
from samplewise.core.rule import Rule
from samplewise.engine.modes import RetryInTwoPasses
from samplewise.engine.observers import Observer
from samplewise.engine.options import WeightingOptions
from samplewise.engine.saving import read, restore, saved, write
from samplewise.engine.step import Step
from samplewise.losses.sharded import is_gathered_in_forward
from samplewise.rules.epochs import refuse_epochs
from samplewise.trainers.accelerators import autocast, check_accelerator, check_fabric, discard_gradients
from samplewise.trainers.collate import split_into_turns
from samplewise.trainers.reference_model import with_loaded_reference
from samplewise.trainers.zero import gather_head, has_deepspeed


class WeightedStep:
    """Plans one optimizer step at a time over all its micro-batches and ranks, and divides its gradient once.

    model: ready to train: after `accelerator.prepare`, or wrapped in DDP, or sharded by `fully_shard`, if at all. Its
        `forward` learns to answer for losses; `detach()` undoes that.
    rule, and every other field of `samplewise.engine.options.WeightingOptions` by name. accelerator: accelerate's, if
        the loop has one; fabric: Lightning's, whose `setup` the model has gone through. observers: see every finished
        step (`samplewise.engine.observers`).
    Micro-batches are dicts with input_ids [B, T], labels [B, T] (not shifted, −100 where nothing is predicted),
    sample_id [n] int64 and, if there are any, attention_mask and the data's columns. A row with left padding is
    understood from its mask.
    Errors: SamplewiseError on what cannot be combined with sample weighting; where ranks differ, on all of them.

    ```python
    step = WeightedStep(model, "ir_dro(r=3.0)")
    for batches in steps:  # a list of micro-batches for each optimizer step, as many on every rank
        for micro in step.plan(batches):
            step.backward(micro)
        figures = step.finish()  # loss (unweighted), weighted_loss, ess, kept, …
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad()
    step.detach()
    ```
    """

    def __init__(
        self, model: nn.Module, rule: Rule | str, *, accelerator: Any = None, fabric: Any = None,
        observers: Iterable[Observer] = (), **options: Any,
    ) -> None:  # fmt: skip
        self.model, self.accelerator, self.fabric = model, accelerator, fabric
        chosen = with_loaded_reference(WeightingOptions(rule=rule, **options))
        refuse_epochs(chosen.rule, "in a loop of your own")
        if accelerator is not None and fabric is None:
            check_accelerator(accelerator)
        self._called: Any = model
        if fabric is not None:
            check_fabric(fabric, model, accelerator)
            # Below Fabric's wrapper, which would convert the engine's request too; the autocast is entered here anyway.
            self._called = self._called._forward_module
        sharded = is_gathered_in_forward(model)
        self.engine = Step(chosen, next(model.parameters()).device, observers)
        inner: Any = getattr(model, "module", model)
        self._updates_in_backward = has_deepspeed(accelerator)
        look = {"head": "sharded" if sharded else "whole", "check": not self._updates_in_backward}
        self.engine.attach(inner, **look, same_rows=accelerator is None and fabric is None)
        gather_head(inner, accelerator)
        self._started, self._reason = False, None

    # ---- one optimizer step ----

    def plan(self, batches: Sequence[Mapping[str, Tensor]]) -> Iterator[MicroBatch]:
        """The micro-batches to give to `backward`, one by one: of those given, at most as many, on all ranks as many.

        Gradients must be zero before. Where weights turn out to be of no use (a loss that is not finite, an overflow)
        they are set to zero, and the same micro-batches follow once more in two passes.
        """
        self._start()
        self._reason: RetryInTwoPasses | None = None
        given = [split_into_turns(batch) for batch in batches] if self.engine.options.turns else batches
        prepare = partial(self.engine.prepare, can_rescale=not self._updates_in_backward)
        yield from self._autocast(prepare, self._called, given)
        if self._reason is not None:
            yield from self._autocast(self.engine.retry, self._called, self._reason)

    def backward(self, micro: MicroBatch) -> None:
        """Forward and backward of one micro-batch; gradients meet over ranks in the step's last."""
        with self._synchronised(micro.last), self.engine.clock.timed("train"):
            try:
                objective: Tensor = self._autocast(self.engine.loss, self._called, micro)
            except RetryInTwoPasses as reason:
                discard_gradients(self.model, reason, self.accelerator)
                self._reason = reason
                return
            library = self.accelerator or self.fabric
            objective.backward() if library is None else library.backward(objective)

    def finish(self) -> dict[str, float]:
        """Divide the gradient, before any clipping; take the rule's new state. Returns the step's figures."""
        result = self.engine.finish(self.model.parameters)
        return {**result.figures, "passes": 2.0 if result.mode == "two_pass" else 1.0}

    def detach(self) -> None:
        """Give the model its own forward back, and write what the sample log holds back."""
        self.engine.flush()
        self.engine.detach()

    def _start(self) -> None:
        if not self._started:
            self._started = True
            self.engine.check_ranks({"samplewise": __version__})
            if self.engine.steps == 0:
                self.engine.claim()
            self.engine.start()

    def _synchronised(self, last: bool) -> AbstractContextManager[Any]:
        """Gradients are averaged over ranks in the last backward of a step only."""
        if self._updates_in_backward:
            self.accelerator.sync_gradients = last
            return nullcontext()
        if self.accelerator is not None:
            return nullcontext() if last else self.accelerator.no_sync(self.model)
        if self.fabric is not None:
            return self.fabric.no_backward_sync(self.model, enabled=not last)
        if hasattr(self.model, "set_requires_gradient_sync"):  # fully_shard
            self.model.set_requires_gradient_sync(last)  # pyright: ignore[reportCallIssue]
            return nullcontext()
        return nullcontext() if last or not hasattr(self.model, "no_sync") else self.model.no_sync()  # pyright: ignore

    def _autocast(self, call: Callable[..., Any], *args: Any) -> Any:
        with autocast(self.accelerator or self.fabric):
            return call(*args)

    # ---- checkpoints ----

    def state_dict(self) -> dict[str, Any]:
        """The rule's state and the number of steps: numbers and tensors. For `accelerator.register_for_checkpointing`
        and `fabric.save`.

        accelerate writes it with pickle and reads it with `weights_only=False`; `save` and `load` do neither.
        """
        return saved(self.engine)

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Resume from `state_dict`. The state of another rule is left alone, and the log says so."""
        restore(self.engine, state)

    def save(self, folder: str | Path) -> None:
        """Write the state into `folder`/samplewise as JSON and safetensors, from the first rank.

        `samplewise.core.checkpoint.mark_complete(folder)`, when all else is in the folder, makes it one to `load`.
        """
        write(self.engine, Path(folder))

    def load(self, folder: str | Path) -> None:
        """Resume from what `save` wrote. Errors: SamplewiseError if it is not complete, or has changed."""
        read(self.engine, Path(folder))

"""`loss_from="stored"`: the trainer's memory of losses, in step with its checkpoints."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import TYPE_CHECKING, Any

from torch import Tensor
from transformers import Trainer

from samplewise.core.columns import Batch
from samplewise.core.errors import SamplewiseError
from samplewise.core.rule import Rule, State
from samplewise.engine.figures import Figures
from samplewise.engine.loss_history import LossMemory, Staleness
from samplewise.engine.modes import Mode, Setting
from samplewise.engine.stored import Store, Stored
from samplewise.rules.base import under, within

logger = logging.getLogger("samplewise")

_Host = Trainer if TYPE_CHECKING else object

MEMORY, PAIRS = "samplewise_memory", "samplewise_staleness"


class RememberingMixin(_Host):
    """Plans from stored losses while they rank samples as fresh ones do; scores afresh where they no longer do."""

    rule: Rule
    rule_state: State
    normalize: str
    loss_from: str
    token_rule: Any
    least_stored_corr: float
    _figures: Figures
    _store: Store | None = None
    _was_stale = False

    def check_stored(self) -> None:
        """Errors: SamplewiseError where stored losses would have no effect, or on a limit that is no correlation."""
        least = self.least_stored_corr
        if isinstance(least, bool) or not isinstance(least, (int, float)) or not -1 <= least <= 1:
            raise SamplewiseError(
                "least_stored_corr", expected="a rank correlation in [-1, 1]", got=repr(least),
                remedy="0.7 is the default; -1 always takes stored losses.",
            )  # fmt: skip
        if self.loss_from != "stored":
            return
        without = not self.rule.needs_loss or self.normalize == "micro" or self.token_rule is not None
        if without:
            raise SamplewiseError(
                "loss_from", expected="'fresh' with a rule that needs no loss, a token rule, or normalize='micro'",
                got="'stored'", remedy="Stored losses are samples' losses for a rule to see before the step.",
            )  # fmt: skip

    def _begin(self, checkpoint: Path | None) -> None:
        wanted = self.loss_from == "stored" or self.rule.epochs is not None
        self._store = Store(self.least_stored_corr) if wanted else None
        self._was_stale = False
        super()._begin(checkpoint)  # pyright: ignore[reportAttributeAccessIssue]

    def _from_store(self, setting: Setting, batches: list[Batch]) -> Mode | None:
        """The mode that plans from stored losses; None where the step is to be scored."""
        if self._store is None or self.loss_from != "stored":
            return None
        stale = self._store.staleness.stale(self._store.least)
        if stale != self._was_stale:
            corr = self._store.staleness.figures["stored_corr"]
            what = "samples are scored afresh" if stale else "stored losses are used again"
            logger.warning(
                "step %d: stored and fresh losses have a rank correlation of %.2f: %s",
                self.state.global_step, corr, what,
            )  # fmt: skip
            self._was_stale = stale
        if stale:
            self._store.compare_later(batches, self.args.device)
            return None
        return Stored(setting, self._store, self.state.global_step)

    def _learn(self, mode: Mode) -> None:
        if self._store is not None:
            self._store.learn(mode, self.state.global_step)
            if self.loss_from == "stored":
                self._figures.note(self._store.staleness.figures)

    def _saved_state(self) -> State:
        state: State = super()._saved_state()  # pyright: ignore[reportAttributeAccessIssue]
        if self._store is None:
            return state
        memory, pairs = self._store.memory.state(), self._store.staleness.state()
        return {**state, **under(MEMORY, memory), **under(PAIRS, pairs)}

    def _restore(self, checkpoint: Path) -> None:
        super()._restore(checkpoint)  # pyright: ignore[reportAttributeAccessIssue]
        memory, pairs = within(self.rule_state, MEMORY), within(self.rule_state, PAIRS)
        ours = tuple(f"{prefix}." for prefix in (MEMORY, PAIRS))
        self.rule_state = {key: value for key, value in self.rule_state.items() if not key.startswith(ours)}
        if self._store is not None and isinstance(memory.get("ids"), Tensor):
            self._store.memory = LossMemory.from_state(memory)
            self._store.staleness = Staleness.from_state(pairs)

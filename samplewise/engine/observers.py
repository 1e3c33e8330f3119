"""What happens beside a step: recording, watching, remembering, adding up. Held in a list, not inherited."""

from __future__ import annotations

from typing import Protocol, runtime_checkable

from samplewise.core.rule import State
from samplewise.engine.result import StepResult


@runtime_checkable
class Observer(Protocol):
    """Sees every finished step, in order, on every rank; what it must remember goes into the checkpoint."""

    def on_begin(self, step: int) -> None:
        """A run begins after `step` steps: 0 for a new one; after `load_state_dict` where it is resumed."""
        ...

    def on_step(self, result: StepResult) -> None:
        """After the step's gradient is whole, before it is clipped."""
        ...

    def flush(self) -> None:
        """Before a checkpoint counts, and at the end of the run however it ends: write what is held back."""
        ...

    def state_dict(self) -> State:
        """Flat, every key with a prefix of its own that begins with "samplewise_"; {} for nothing to remember."""
        ...

    def load_state_dict(self, state: State) -> None:
        """From all that a checkpoint holds; the keys of others are left alone."""
        ...


class StatelessObserver:
    """An observer that does nothing and remembers nothing: override what it is for."""

    def on_begin(self, step: int) -> None:
        """Does nothing when a run begins."""

    def on_step(self, result: StepResult) -> None:
        """Does nothing after a step."""

    def flush(self) -> None:
        """Does nothing: no output is held back."""

    def state_dict(self) -> State:
        """An empty state: nothing has to be remembered."""
        return {}

    def load_state_dict(self, state: State) -> None:
        """Does nothing: there is no state to restore."""

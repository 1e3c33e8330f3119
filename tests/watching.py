"""Observers for tests: what every finished step says of itself."""

from collections.abc import Callable

from samplewise.engine.observers import StatelessObserver
from samplewise.engine.result import StepResult


class OnStep(StatelessObserver):
    """Calls a function with every step's result."""

    def __init__(self, call: Callable[[StepResult], object]) -> None:
        self.call = call

    def on_step(self, result: StepResult) -> None:
        self.call(result)

"""What a run shows while it trains, and how it stops: a bar with live figures, and Ctrl-C that saves."""

from __future__ import annotations

import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from types import FrameType
from typing import Any

from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments

from samplewise.core.progress import Progress
from samplewise.evidence.run.history import History


class TrainingProgress(TrainerCallback):
    """One bar on a terminal; elsewhere a line at every tenth of the run."""

    def __init__(self, trainer: Any) -> None:
        self.trainer = trainer
        self.shown: Progress | None = None

    def on_train_begin(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        """Start the progress bar at the step that training resumes from."""
        layout = "{desc} {percentage:3.0f}%|{bar:20}| {n}/{total} [{elapsed}<{remaining}]{postfix}"
        self.shown = Progress(
            "training", state.max_steps, initial=state.global_step, unit="steps", layout=layout, leave=True
        )

    def on_step_end(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any) -> None:
        """Show the figures of the finished step beside the progress bar."""
        if self.shown is None:
            return
        self.shown.total = self.shown.bar.total = state.max_steps  # known late where epochs leave samples out
        self.shown.reach(state.global_step, figures(self.trainer.history))
        every = max(1, state.max_steps // 10)
        if not self.shown.watched and (state.global_step % every == 0 or state.global_step == state.max_steps):
            self.shown.say()

    def on_train_end(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        """Leave the last state of the bar on the screen."""
        if self.shown is not None:
            self.shown.close()


def figures(history: History) -> str:
    """The figures of the last step, in a few words."""
    last = {name: values[-1] for name, values in history.curves.items() if values}
    if not last:
        return ""
    return f"loss {last['loss']:.3f}, ess {last['ess']:.0%}, kept {last['kept']:.0%}"


_ASKING = [getattr(signal, name) for name in ("SIGINT", "SIGTERM", "SIGHUP") if hasattr(signal, name)]


class StopOnSignal(TrainerCallback):
    """Ctrl-C, SIGTERM, or the end of the terminal (SIGHUP) lets the step end, saves a checkpoint and stops.

    A second one stops at once. What is ignored already, as nohup does with SIGHUP, stays ignored.
    """

    def __init__(self) -> None:
        self.asked = False

    def on_step_end(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any) -> None:
        """Save a checkpoint and stop, if a signal asked for it."""
        if self.asked:
            control.should_save = control.should_training_stop = True

    @contextmanager
    def listening(self) -> Iterator[None]:
        """Handle the signals inside the block. Outside the main thread, where Python forbids it, this does nothing."""
        try:
            before = {n: signal.signal(n, self._ask) for n in _ASKING if signal.getsignal(n) is not signal.SIG_IGN}
        except ValueError:
            yield
            return
        try:
            yield
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)

    def _ask(self, number: int, frame: FrameType | None) -> None:
        if self.asked:
            raise KeyboardInterrupt
        self.asked = True
        with suppress(RuntimeError):  # it came while a line was being written there
            print(
                "\nstopping: the step is finished and a checkpoint saved first (Ctrl-C again stops at once)",
                file=sys.stderr, flush=True,
            )  # fmt: skip

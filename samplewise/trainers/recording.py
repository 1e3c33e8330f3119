"""A loss for every sample in a file, if asked for: added at each step, written with each checkpoint and at the end."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from transformers import Trainer, TrainerState
from transformers.trainer import TRAINER_STATE_NAME

from samplewise.core.distributed import rank
from samplewise.core.errors import SamplewiseError
from samplewise.engine.modes import Mode
from samplewise.engine.sample_log import SampleLog

_Host = Trainer if TYPE_CHECKING else object


class RecordingMixin(_Host):
    """Keeps a `SampleLog` on the first rank, in step with the checkpoints that a run resumes from."""

    _sample_log: SampleLog | None

    def train(
        self, resume_from_checkpoint: str | bool | None = None, trial: Any = None, *args: Any, **kwargs: Any
    ) -> Any:
        """The host's `train`; what is held back of the log is written however it ends."""
        log = self._own_log()
        if self._sample_log is not None and trial is not None:
            raise SamplewiseError(
                "log_samples", expected="none in a hyperparameter search", got=self._sample_log.folder,
                remedy="Each trial would need a folder of its own: log the best one when you train it again.",
            )  # fmt: skip
        if log is not None and not resume_from_checkpoint:
            log.start()
        try:
            return super().train(resume_from_checkpoint, trial, *args, **kwargs)
        finally:
            if log is not None:
                log.flush()

    def _begin(self, checkpoint: Path | None) -> None:
        super()._begin(checkpoint)  # pyright: ignore[reportAttributeAccessIssue]
        log = self._own_log()
        if log is not None:  # a run that is started over has logged steps that are taken again
            log.resume(0 if checkpoint is None else _step_of(checkpoint))

    def _record(self, mode: Mode) -> None:
        log = self._own_log()
        if log is not None:
            log.add(self.state.global_step + 1, mode.samples, mode.plan.weights)

    def _save_ours(self, folder: Path) -> None:
        log = self._own_log()
        if log is not None:
            log.flush()  # before the checkpoint counts: what it resumes from is recorded
        super()._save_ours(folder)  # pyright: ignore[reportAttributeAccessIssue]

    def _own_log(self) -> SampleLog | None:
        return self._sample_log if rank() == 0 else None


def _step_of(checkpoint: Path) -> int:
    return TrainerState.load_from_json(str(checkpoint / TRAINER_STATE_NAME)).global_step

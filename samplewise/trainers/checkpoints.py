"""The engine's state in the Trainer's checkpoints: written before its files, a marker with checksums after them."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from transformers import Trainer, TrainerState
from transformers.trainer import TRAINER_STATE_NAME
from transformers.trainer_utils import PREFIX_CHECKPOINT_DIR

from samplewise.core.checkpoint import load_state, mark_complete, save_state
from samplewise.core.distributed import world_size
from samplewise.engine.options import WeightingOptions
from samplewise.engine.step import Step
from samplewise.trainers.folders import newest, rotate, writing
from samplewise.trainers.resume_checks import (
    compare_settings,
    compare_steps,
    same_on_ranks,
    settings,
    verify,
    written_facts,
)

_Host = Trainer if TYPE_CHECKING else object


class CheckpointsMixin(_Host):
    """Saves and restores the engine's state; `resume_from_checkpoint=True` takes the newest complete checkpoint."""

    engine: Step
    options: WeightingOptions
    _data_position: Callable[[], tuple[int, int] | None]
    _position: tuple[int, int] | None = None  # where the Trainer cannot count: passes before, steps of this one
    _limit: int | None = None  # save_total_limit, while a checkpoint is written

    def _checkpoint(self, resume_from_checkpoint: str | bool | None) -> str | None:
        """The folder to resume from, looked through; the newest that is complete for True. Ranks must agree on it."""
        if resume_from_checkpoint is True:
            resume_from_checkpoint = str(newest(Path(str(self.args.output_dir))))
        found = str(resume_from_checkpoint) if resume_from_checkpoint else None
        self.engine.check_ranks(same_on_ranks(self.args, found))
        if found:
            verify(Path(found), self.args)
        return found

    def _begin(self, checkpoint: Path | None) -> None:
        self.engine.begin()
        self._position = None
        if checkpoint is not None:
            self._restore(checkpoint)
        super()._begin(checkpoint)  # pyright: ignore[reportAttributeAccessIssue]

    def _restore(self, checkpoint: Path) -> None:
        saved = load_state(checkpoint, check=False)  # `verify` has
        if saved is None:
            steps = TrainerState.load_from_json(str(checkpoint / TRAINER_STATE_NAME)).global_step
            self.engine.skip_to(steps, checkpoint)
            return
        state, facts = saved
        self._position = facts["position"]
        compare_steps(facts, self._rows())
        compare_settings(facts, settings(self))
        self.engine.load_state_dict(state, steps=facts["step"], rule=facts["rule"])

    def _rows(self) -> int:
        """Rows that the Trainer's loader draws for a step."""
        return self._train_batch_size * self.args.gradient_accumulation_steps * self.options.pool * world_size()

    def save_model(self, *args: Any, **kwargs: Any) -> None:
        """The Trainer's; inside a checkpoint that is not complete yet, no older one is deleted after it."""
        super().save_model(*args, **kwargs)
        if self._limit is not None:  # only now: the host has written its arguments down
            self.args.save_total_limit = None

    def _save_checkpoint(self, model: Any, trial: Any) -> None:
        folder = Path(self._get_output_dir(trial=trial)) / f"{PREFIX_CHECKPOINT_DIR}-{self.state.global_step}"
        self._limit = limit = self.args.save_total_limit
        try:
            with writing(folder, on_this_rank=self.args.should_save):
                self._write_checkpoint(folder, model, trial)
        finally:
            self._limit, self.args.save_total_limit = None, limit
        if self.args.should_save:
            rotate(folder, limit, self.state.best_model_checkpoint)

    def _write_checkpoint(self, folder: Path, model: Any, trial: Any) -> None:
        self.accelerator.wait_for_everyone()  # an old one of this step is out of the way
        if self.args.should_save:
            self._save_ours(folder)
        super()._save_checkpoint(model, trial)
        self.accelerator.wait_for_everyone()
        if self.args.should_save:
            mark_complete(folder)

    def _save_ours(self, folder: Path) -> None:
        """Write the engine's part of a checkpoint before the Trainer's files; the marker covers all of them."""
        self.engine.flush()  # before the checkpoint counts: what it resumes from is recorded
        save_state(folder, self.engine.state_dict(), written_facts(self, self._rows(), self._data_position()))

"""The engine's state in the Trainer's checkpoints: written before its files, a marker with checksums after them."""

from __future__ import annotations

import logging
import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

import transformers
from transformers import Trainer, TrainerState
from transformers.trainer import TRAINER_STATE_NAME
from transformers.trainer_utils import PREFIX_CHECKPOINT_DIR, rotate_checkpoints

from samplewise import __version__
from samplewise.core.checkpoint import FOLDER, MARKER, load_state, mark_complete, save_state
from samplewise.core.distributed import largest, world_size
from samplewise.core.errors import SamplewiseError
from samplewise.core.rule import State
from samplewise.engine.options import WeightingOptions
from samplewise.engine.step import Step

logger = logging.getLogger("samplewise")

_Host = Trainer if TYPE_CHECKING else object


class CheckpointsMixin(_Host):
    """Saves and restores the engine's state; `resume_from_checkpoint=True` takes the newest complete checkpoint."""

    engine: Step
    options: WeightingOptions
    _position: tuple[int, int] | None = None  # where the host cannot count: passes before, steps of this one
    _streams = False
    _limit: int | None = None  # save_total_limit, while a checkpoint is written

    def _checkpoint(self, resume_from_checkpoint: str | bool | None) -> str | None:
        """The folder to resume from: the newest that is complete for True."""
        self._position = None
        if resume_from_checkpoint is True:
            return str(newest_complete(Path(str(self.args.output_dir))))
        return str(resume_from_checkpoint) if resume_from_checkpoint else None

    def _check_ranks(self, checkpoint: str | None) -> None:
        """Errors: SamplewiseError where ranks differ in what they would do."""
        args = self.args
        more = {
            "seed": args.seed, "data_seed": args.data_seed, "max_steps": args.max_steps,
            "gradient_accumulation_steps": args.gradient_accumulation_steps,
            "resume_from_checkpoint": Path(checkpoint).name if checkpoint else None,
            "samplewise.__version__": __version__, "transformers.__version__": transformers.__version__,
        }  # fmt: skip
        self.engine.check_ranks(more)

    def _restore(self, checkpoint: Path) -> None:
        saved = self._load(checkpoint)
        if saved is None:
            logger.warning("%s has no state of a rule: %s starts from its first state", checkpoint, self.options.rule)
            self.engine.steps = TrainerState.load_from_json(str(checkpoint / TRAINER_STATE_NAME)).global_step
            return
        state, facts = saved
        self._position = facts["position"]
        self._compare_steps(facts)
        self.engine.load_state_dict(state, steps=facts["step"], rule=facts["rule"])

    def _load(self, checkpoint: Path) -> tuple[State, dict[str, Any]] | None:
        """What `save_state` wrote, every checksum compared by one rank, or one of each machine; all refuse together."""
        saved, refusal = None, None
        if self.args.should_save:
            try:
                saved = load_state(checkpoint)
            except SamplewiseError as error:
                refusal = error
        if largest(refusal is not None, self.args.device):
            raise refusal or SamplewiseError(
                "resume_from_checkpoint", expected="a complete checkpoint", got=f"{checkpoint}, refused by rank 0",
                remedy="Its error says why.",
            )  # fmt: skip
        return saved if self.args.should_save else load_state(checkpoint, check=False)

    def _compare_steps(self, facts: dict[str, Any]) -> None:
        """Say what another number of ranks, or of rows in a step, means for the order of the data."""
        rows, ranks = self._rows(), world_size()
        if facts["rows"] != rows:
            logger.warning(
                "a step of the checkpoint had %d rows, and has %d now: %d steps of these count as seen, so that rows "
                "of this epoch are left out or come again", facts["rows"], rows, facts["step"]
            )  # fmt: skip
        elif facts["ranks"] != ranks:
            logger.warning(
                "%d ranks wrote the checkpoint, %d go on: steps have the same rows in the same order, but dropout and "
                "other draws differ, and sums are rounded otherwise", facts["ranks"], ranks
            )  # fmt: skip

    def _rows(self) -> int:
        """Rows that the host's loader draws for a step."""
        return self.args.train_batch_size * self.args.gradient_accumulation_steps * self.options.pool * world_size()

    def _init_training_state(
        self, max_steps: int, num_update_steps_per_epoch: int, num_train_epochs: int, *args: Any, **kwargs: Any
    ) -> tuple[int, int]:
        """Where the host goes on: its (epochs, micro-batches of this one), but for two cases that it gets wrong.

        A stream has no length, so that the host takes every step for one of its first pass; and after the last step
        it would take one more.
        """
        place = super()._init_training_state(max_steps, num_update_steps_per_epoch, num_train_epochs, *args, **kwargs)
        self._streams = num_train_epochs > 1 and num_update_steps_per_epoch == max_steps
        if self.state.global_step >= max_steps:
            return num_train_epochs, 0
        if self._streams and self._position and not self.args.ignore_data_skip:
            return self._position[0], self._position[1] * self.args.gradient_accumulation_steps
        return place

    def _data_position(self) -> tuple[int, int] | None:
        """Of a stream: passes before this one, and steps taken in it."""
        if not self._streams or self.state.epoch is None:
            return None
        passes = int(self.state.epoch)  # the host adds to it the share of max_steps taken in this pass
        return passes, round((self.state.epoch - passes) * self.state.max_steps)

    def save_model(self, *args: Any, **kwargs: Any) -> None:
        """The host's; within a checkpoint, which is not complete yet, nothing older is deleted after it."""
        super().save_model(*args, **kwargs)
        if self._limit is not None:  # only now: the host has written its arguments down
            self.args.save_total_limit = None

    def _save_checkpoint(self, model: Any, trial: Any) -> None:
        output = Path(self._get_output_dir(trial=trial))
        folder = output / f"{PREFIX_CHECKPOINT_DIR}-{self.state.global_step}"
        self.engine.flush()  # before the checkpoint counts: what it resumes from is recorded
        if self.args.should_save:
            facts = {
                "rule": self.options.rule.expression, "step": self.state.global_step, "ranks": world_size(),
                "rows": self._rows(), "position": self._data_position(),
            }  # fmt: skip
            save_state(folder, self.engine.state_dict(), facts)
        self._limit = limit = self.args.save_total_limit
        try:
            super()._save_checkpoint(model, trial)
        finally:
            self._limit, self.args.save_total_limit = None, limit
        self.accelerator.wait_for_everyone()
        if self.args.should_save:
            mark_complete(folder)
            os.utime(folder)  # overwritten or not, it is the newest
            rotate_checkpoints(str(output), limit, self.state.best_model_checkpoint, use_mtime=True)


def newest_complete(output: Path) -> Path:
    """The checkpoint of the highest step that has its marker.

    Errors: SamplewiseError if there is none.
    """
    found = {p.parent.parent for p in output.glob(f"{PREFIX_CHECKPOINT_DIR}-*/{FOLDER}/{MARKER}")}
    steps = {int(p.name.rsplit("-", 1)[1]): p for p in found if p.name.rsplit("-", 1)[1].isdigit()}
    if not steps:
        unmarked = sorted(path.name for path in output.glob(f"{PREFIX_CHECKPOINT_DIR}-*"))
        raise SamplewiseError(
            "resume_from_checkpoint", expected=f"a checkpoint with {FOLDER}/{MARKER} in {output}",
            got=f"only {', '.join(unmarked)}" if unmarked else "none",
            remedy="Start without it, or name the folder of one that another trainer wrote.",
        )  # fmt: skip
    return steps[max(steps)]

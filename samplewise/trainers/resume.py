"""The rule's state in the host's checkpoints: written before the host's files, a marker with checksums after them."""

from __future__ import annotations

import logging
from contextlib import nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
import transformers
from transformers import Trainer
from transformers.trainer_utils import PREFIX_CHECKPOINT_DIR

from samplewise import __version__
from samplewise.core.checkpoint import load_state, mark_complete, save_state
from samplewise.core.distributed import check_same, largest, world_size
from samplewise.core.errors import SamplewiseError
from samplewise.core.exhausted import told, wanting
from samplewise.core.rule import Rule, State
from samplewise.trainers.folders import newest, replaced, rotate

logger = logging.getLogger("samplewise")

_Host = Trainer if TYPE_CHECKING else object


class ResumableMixin(_Host):
    """Saves and restores `rule_state`. `resume_from_checkpoint=True` takes the newest checkpoint that is complete."""

    rule: Rule
    rule_state: State
    per: str
    normalize: str
    pool: int
    turns: bool
    loss_from: str
    token_rule: Any
    max_nonfinite: float
    _position: tuple[int, int] | None = None  # where the host cannot count: passes before, steps of this one
    _same_rule = False  # whether the state is that of a checkpoint
    _streams = False
    _limit: int | None = None  # save_total_limit, while a checkpoint is written

    def train(self, resume_from_checkpoint: str | bool | None = None, *args: Any, **kwargs: Any) -> Any:
        """The host's `train`, from the rule's first state or from the checkpoint's."""
        if resume_from_checkpoint is True:
            resume_from_checkpoint = str(newest(Path(str(self.args.output_dir))))
        check_same(self._common(resume_from_checkpoint), self.args.device)
        if resume_from_checkpoint:
            self._verify(Path(str(resume_from_checkpoint)))
        return super().train(resume_from_checkpoint, *args, **kwargs)

    def _begin(self, checkpoint: Path | None) -> None:
        self.rule_state, self._position, self._same_rule = self.rule.init(), None, False
        if checkpoint is not None:
            self._restore(checkpoint)
        super()._begin(checkpoint)  # pyright: ignore[reportAttributeAccessIssue]

    def _common(self, checkpoint: str | bool | None) -> dict[str, str]:
        """What must be the same on all ranks, or they would weigh other samples, or wait for ever."""
        args = self.args
        values = {
            "rule": self.rule.expression, "per": self.per, "normalize": self.normalize, "pool": self.pool,
            "max_nonfinite": self.max_nonfinite, "seed": args.seed, "data_seed": args.data_seed,
            "gradient_accumulation_steps": args.gradient_accumulation_steps, "max_steps": args.max_steps,
            "resume_from_checkpoint": Path(checkpoint).name if isinstance(checkpoint, str) else None,
            "samplewise.__version__": __version__, "torch.__version__": torch.__version__,
            "transformers.__version__": transformers.__version__,
        }  # fmt: skip
        return {name: str(value) for name, value in values.items()}

    def _restore(self, checkpoint: Path) -> None:
        saved = load_state(checkpoint, check=False)  # `_verify` has
        if saved is None:
            logger.warning("%s has no state of a rule: %s starts from its first state", checkpoint, self.rule)
            return
        state, facts = saved
        self._position = facts["position"]
        self._compare_steps(facts)
        self._compare_settings(facts)
        self._same_rule = facts["rule"] == self.rule.expression
        if self._same_rule:
            self.rule_state = state
        else:
            logger.warning("the checkpoint's rule is %s: %s starts from its first state", facts["rule"], self.rule)

    def _verify(self, checkpoint: Path) -> None:
        """Every checksum is compared by one rank, or one of each machine; all refuse together."""
        refusal = None
        if self.args.should_save:
            try:
                load_state(checkpoint)
            except SamplewiseError as error:
                refusal = error
        if largest(refusal is not None, self.args.device):
            raise refusal or SamplewiseError(
                "resume_from_checkpoint", expected="a complete checkpoint", got=f"{checkpoint}, refused by rank 0",
                remedy="Its error says why.",
            )  # fmt: skip

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

    def _compare_settings(self, facts: dict[str, Any]) -> None:
        """Say which of the settings that a step depends on are not those of the checkpoint."""
        before, now = facts.get("settings", {}), self._settings()
        changed = [name for name in now if name in before and before[name] != now[name]]
        if changed:
            what = "; ".join(f"{name} was {before[name]} and is {now[name]}" for name in changed)
            logger.warning("not as when the checkpoint was written: %s", what)

    def _settings(self) -> dict[str, Any]:
        """What the loss of a step depends on beside the rule, in JSON values."""
        data = self.train_dataset
        return {
            "per": self.per, "normalize": self.normalize, "pool": self.pool, "turns": self.turns,
            "token_rule": None if self.token_rule is None else repr(self.token_rule), "loss_from": self.loss_from,
            "rows of data": len(data) if hasattr(data, "__len__") else None,  # pyright: ignore[reportArgumentType]
            "seed": self.args.seed, "samplewise": __version__, "torch": torch.__version__,
            "transformers": transformers.__version__,
        }  # fmt: skip

    def _rows(self) -> int:
        """Rows that the host's loader draws for a step."""
        return self._train_batch_size * self.args.gradient_accumulation_steps * self.pool * world_size()

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

    def _saved_state(self) -> State:
        """What a checkpoint holds of this library's state."""
        return self.rule_state

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
        self._limit = limit = self.args.save_total_limit
        try:
            with replaced(folder) if self.args.should_save else nullcontext():
                self._write_checkpoint(folder, model, trial)
        except Exception as error:
            if (want := wanting(error)) is None:
                raise
            raise told(want, "output_dir", f"writing {folder}", _then(output)) from error
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
        """Write what belongs to a checkpoint beside the host's files, before them; the marker covers it."""
        facts = {
            "rule": self.rule.expression, "step": self.state.global_step, "ranks": world_size(),
            "rows": self._rows(), "position": self._data_position(), "settings": self._settings(),
        }  # fmt: skip
        save_state(folder, self._saved_state(), facts)


def _then(output: Path) -> str:
    try:
        return f"resume from {newest(output).name}, which is whole"
    except SamplewiseError:
        return "start again: there is no checkpoint yet"

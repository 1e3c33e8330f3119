"""The rule's state in the host's checkpoints: written before the host's files, a marker with checksums after them."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import TYPE_CHECKING, Any

from transformers import Trainer
from transformers.trainer_utils import PREFIX_CHECKPOINT_DIR

from samplewise.checkpoint import FOLDER, MARKER, load_state, mark_complete, save_state
from samplewise.types import Rule, SamplewiseError, State

logger = logging.getLogger("samplewise")

_Host = Trainer if TYPE_CHECKING else object


class ResumableMixin(_Host):
    """Saves and restores `rule_state`. `resume_from_checkpoint=True` takes the newest checkpoint that is complete."""

    rule: Rule
    rule_state: State

    def train(self, resume_from_checkpoint: str | bool | None = None, *args: Any, **kwargs: Any) -> Any:
        """The host's `train`, from the rule's first state or from the checkpoint's."""
        if resume_from_checkpoint is True:
            resume_from_checkpoint = str(newest_complete(Path(str(self.args.output_dir))))
        self.rule_state = self.rule.init()
        if resume_from_checkpoint:
            self._restore(Path(str(resume_from_checkpoint)))
        return super().train(resume_from_checkpoint, *args, **kwargs)

    def _restore(self, checkpoint: Path) -> None:
        saved = load_state(checkpoint)
        if saved is None:
            logger.warning("%s has no state of a rule: %s starts from its first state", checkpoint, self.rule)
            return
        state, facts = saved
        if facts["rule"] == self.rule.expression:
            self.rule_state = state
        else:
            logger.warning("the checkpoint's rule is %s: %s starts from its first state", facts["rule"], self.rule)

    def _save_checkpoint(self, model: Any, trial: Any) -> None:
        folder = Path(self._get_output_dir(trial=trial)) / f"{PREFIX_CHECKPOINT_DIR}-{self.state.global_step}"
        if self.args.should_save:
            save_state(folder, self.rule_state, {"rule": self.rule.expression, "step": self.state.global_step})
        super()._save_checkpoint(model, trial)
        self.accelerator.wait_for_everyone()
        if self.args.should_save and folder.exists():  # the host may have rotated it away
            mark_complete(folder)


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

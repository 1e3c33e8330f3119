"""The start of a run: done again where the Trainer starts over, with a smaller batch or another trial."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from transformers import Trainer

from samplewise.engine.options import WeightingOptions
from samplewise.engine.step import Step
from samplewise.trainers.checks import check_again

_Host = Trainer if TYPE_CHECKING else object


class StartingMixin(_Host):
    """Calls `_begin` once the Trainer has made the model and knows its arguments, before the first step.

    `auto_find_batch_size` starts a run over after running out of memory; `hyperparameter_search` makes another model,
    of other arguments, for each trial. Both come this way, so that nothing of the attempt before is left.
    """

    options: WeightingOptions
    engine: Step
    check_rule: Callable[[], None]
    _attach: Callable[[], None]

    def _inner_training_loop(self, batch_size: int | None = None, *args: Any, **kwargs: Any) -> Any:
        """The Trainer's loop; options are checked again where its arguments are not those that `train` saw."""
        asked = self.args.train_batch_size
        if self.args.auto_find_batch_size and batch_size is not None:
            self._train_batch_size = batch_size  # the host is about to: the checks below need it
        if kwargs.get("trial") is not None or self._train_batch_size != asked:
            check_again(self, asked, self._train_batch_size)
            self.check_rule()
        checkpoint = kwargs.get("resume_from_checkpoint")
        self._begin(None if checkpoint is None else Path(checkpoint))
        self._attach()
        try:
            return super()._inner_training_loop(batch_size, *args, **kwargs)
        finally:
            self.engine.detach()

    def _begin(self, checkpoint: Path | None) -> None:
        """Reset everything that a run counts or remembers, before its first step.

        checkpoint: what the run resumes from. A mixin that keeps something overrides this and calls super.
        """

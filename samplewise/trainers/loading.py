"""The training loader: ids in every batch, candidates by the pool, and a rule that can work on steps of that size."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from transformers import Trainer

from samplewise.distributed import world_size
from samplewise.microbatch import ID
from samplewise.trainers.checks import check_collator, check_step_size
from samplewise.trainers.identify import IdentifyingCollator, identified
from samplewise.types import Rule

_Host = Trainer if TYPE_CHECKING else object


class LoadingMixin(_Host):
    """Ids and pool for whatever loader the host, or a user's subclass of it, builds."""

    rule: Rule
    normalize: str
    pool: int
    _allowed_hosts: tuple[str, ...]

    def train(self, *args: Any, **kwargs: Any) -> Any:
        """The host's `train`, after `check_rule`."""
        self.check_rule()
        return super().train(*args, **kwargs)

    def check_rule(self) -> None:
        """Errors: SamplewiseError if the rule cannot work on steps of the configured size; cheap, before any step."""
        check_collator(self)
        if self._host_of("get_train_dataloader").__module__.startswith(self._allowed_hosts):  # a user's own may differ
            n = self.args.train_batch_size * self.args.gradient_accumulation_steps * world_size() * self.pool
            check_step_size(self.rule, self._together(n), self._together(self._last_step(n)), self.pool)

    def _together(self, n: int) -> int:
        """How many of n samples are weighed together."""
        return min(n, self.args.train_batch_size) if self.normalize == "micro" else n

    def _last_step(self, n: int) -> int:
        """How many samples the last, shorter step of an epoch has; 0 if there is none, or no way to know."""
        known = hasattr(self.train_dataset, "__len__")
        return len(self.train_dataset) % n if known and not self.args.dataloader_drop_last else 0  # pyright: ignore

    def get_train_dataloader(self) -> Any:
        """The host's loader, over the same dataset and collator with ids added to rows and batches."""
        before = self.train_dataset, self.data_collator, self._train_batch_size
        self.train_dataset, self.data_collator = identified(before[0]), IdentifyingCollator(before[1])
        self._train_batch_size = before[2] * self.pool
        try:
            return super().get_train_dataloader()
        finally:
            self.train_dataset, self.data_collator, self._train_batch_size = before

    def _set_signature_columns_if_needed(self) -> None:
        super()._set_signature_columns_if_needed()
        if self._signature_columns is not None and ID not in self._signature_columns:
            self._signature_columns.append(ID)

    def _host_of(self, method: str) -> type:
        raise NotImplementedError  # pragma: no cover

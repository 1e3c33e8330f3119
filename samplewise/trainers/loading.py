"""The training loader: ids in every batch, candidates by the pool, and a rule that can work on steps of that size."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
from transformers import Trainer

from samplewise.core.columns import COLUMNS, TOKEN_WEIGHTS
from samplewise.core.distributed import world_size
from samplewise.core.errors import SamplewiseError
from samplewise.engine.options import WeightingOptions
from samplewise.rules import resolve
from samplewise.trainers.checks import check_collator, check_columns, check_packed, check_rows, check_step_size
from samplewise.trainers.collate import LENGTHS, FieldsCollator, PlainCollator
from samplewise.trainers.dataset_kinds import is_table, is_table_stream
from samplewise.trainers.identify import identified
from samplewise.trainers.values import check_values, columns_read

_Host = Trainer if TYPE_CHECKING else object


class LoadingMixin(_Host):
    """Ids and pool for any loader that the Trainer, or a user's subclass of it, builds."""

    options: WeightingOptions
    _allowed_hosts: tuple[str, ...]

    def check_rule(self) -> None:
        """Errors: SamplewiseError if the rule cannot work on steps of the configured size; cheap, before any step."""
        check_collator(self)
        given = set() if self.options.reference_model is None else {"reference"}
        check_columns(self.options.rule, column_names(self.train_dataset), given)
        check_values(self.train_dataset, self._columns(), negative=self.options.allow_negative)
        rows = len(self.train_dataset) if hasattr(self.train_dataset, "__len__") else None  # pyright: ignore
        if self._loader_is_the_hosts():
            check_rows(rows, self._train_batch_size * self.options.pool if self.args.dataloader_drop_last else 1)
            n = self._train_batch_size * self.args.gradient_accumulation_steps * world_size() * self.options.pool
            n_rows = n if rows is None else min(n, rows)
            several, most = self._samples_in_rows(n_rows)
            first, last = int(self._together(n_rows) * several), self._together(self._last_step(n, rows))
            largest = n_rows if self.options.normalize == "step" else min(n_rows, self._train_batch_size)
            rule = resolve(self.options.rule, self.args.max_steps if self.args.max_steps > 0 else 1000)
            if most > 1:  # of the last step of packed rows nothing is known
                check_packed(rule, first, n_rows, self.options.pool, int(largest * most))
            else:
                check_step_size(rule, first, last, self.options.pool, largest)
        elif self.options.pool > 1:
            raise SamplewiseError(
                "pool", expected="1 with a get_train_dataloader of your own", got=self.options.pool,
                remedy="Set pool=1, raise the batch size there, and let the rule keep a share of it.",
            )  # fmt: skip

    def _samples_in_rows(self, n_rows: int) -> tuple[float, float]:
        """(on average, at most) how many samples a row of the loader's holds, the latter over n_rows together."""
        return samples_in_rows(self.train_dataset, n_rows, turns=self.options.turns)

    def _columns(self) -> frozenset[str]:
        return columns_read(
            self.options.rule, stored=self.options.loss_from == "stored" or self.options.rule.epochs is not None
        )

    def _together(self, n: int) -> int:
        """The fewest of n samples that are weighed together."""
        size = self._train_batch_size
        return n if self.options.normalize == "step" or n == 0 else n % size or size

    def _last_step(self, n: int, rows: int | None) -> int:
        """How many samples the last, shorter step of an epoch has; 0 if it never comes, or there is no way to know."""
        reached = rows is not None and (self.args.max_steps <= 0 or self.args.max_steps * n > rows - rows % n)
        return rows % n if rows is not None and reached and rows > n and not self.args.dataloader_drop_last else 0

    def get_train_dataloader(self, *args: Any, **kwargs: Any) -> Any:
        """The Trainer's loader, over the same dataset and collator with ids added to rows and batches."""
        if self.train_dataset is None:
            return super().get_train_dataloader(*args, **kwargs)  # the host says what is missing
        before = self.train_dataset, self.data_collator, self._train_batch_size
        columns = self._columns()
        negative = self.options.allow_negative
        self.train_dataset = identified(before[0], columns, negative=negative)
        self.data_collator = FieldsCollator(before[1], turns=self.options.turns, columns=columns, negative=negative)
        self._train_batch_size = before[2] * self.options.pool
        try:
            return super().get_train_dataloader(*args, **kwargs)
        finally:
            self.train_dataset, self.data_collator, self._train_batch_size = before

    def get_eval_dataloader(self, *args: Any, **kwargs: Any) -> Any:
        """The Trainer's own loader for evaluation; rows may have the columns of samples."""
        return self._plainly(super().get_eval_dataloader, *args, **kwargs)

    def get_test_dataloader(self, *args: Any, **kwargs: Any) -> Any:
        """The Trainer's own loader for prediction; rows may have the columns of samples."""
        return self._plainly(super().get_test_dataloader, *args, **kwargs)

    def _plainly(self, build: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        before = self.data_collator
        self.data_collator = PlainCollator(before)
        try:
            return build(*args, **kwargs)
        finally:
            self.data_collator = before

    def _set_signature_columns_if_needed(self) -> None:
        super()._set_signature_columns_if_needed()
        if self._signature_columns is not None:
            ours = (*COLUMNS, TOKEN_WEIGHTS)
            self._signature_columns += [name for name in ours if name not in self._signature_columns]

    def _loader_is_the_hosts(self) -> bool:
        """Whether no class of the user's builds the loader, whose batches may then have any size."""
        others = (cls for cls in type(self).__mro__ if not cls.__module__.startswith("samplewise."))
        owner = next(cls for cls in others if "get_train_dataloader" in vars(cls))
        return owner.__module__.startswith(self._allowed_hosts)


def column_names(dataset: Any) -> list[str] | None:
    """The columns of a dataset of the `datasets` library; of others those of the first row; None if unknown."""
    names = getattr(dataset, "column_names", None)
    if names is None and hasattr(dataset, "__len__") and len(dataset):
        first = dataset[0]
        names = list(first) if isinstance(first, Mapping) else None
    return names


def samples_in_rows(dataset: Any, n: int, *, turns: bool = False) -> tuple[float, float]:
    """(on average, at most) how many samples a row holds, the latter over n rows together; (1, 1) of plain rows.

    Of packed rows the average is over the first thousand. Where nobody can know beforehand, as of a packed stream or of
    turns, it is `UNKNOWN_COUNT`: a rule is then judged by the steps that come.
    """
    if turns:
        return UNKNOWN_COUNT, UNKNOWN_COUNT
    if not is_table(dataset):
        return (UNKNOWN_COUNT, UNKNOWN_COUNT) if LENGTHS in (_first_columns(dataset) or ()) else (1.0, 1.0)
    if LENGTHS not in dataset.column_names or not len(dataset):
        return 1.0, 1.0
    import pyarrow.compute

    lengths = dataset.with_format("arrow").select_columns([LENGTHS])[:][LENGTHS]
    counts = pyarrow.compute.list_value_length(lengths).to_numpy()  # pyright: ignore[reportAttributeAccessIssue]
    return float(counts[:1000].mean()), float(np.sort(counts)[::-1][:n].sum()) / n


UNKNOWN_COUNT = 1000.0
"""More samples than a row can be expected to hold."""


def _first_columns(dataset: Any) -> list[str] | None:
    """The columns; of a stream of the `datasets` library, which can be read from its start again, of its first row."""
    names = column_names(dataset)
    if names is None and is_table_stream(dataset):
        names = list(next(iter(dataset), {}))
    return names

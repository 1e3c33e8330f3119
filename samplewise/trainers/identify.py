"""What belongs to a sample, from the dataset on: ids where there are none, and columns as the numbers they must be."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
from torch.utils.data import Dataset, IterableDataset, get_worker_info

from samplewise.core.columns import GROUP, ID, REFERENCE, STORED, WEIGHT
from samplewise.core.errors import SamplewiseError
from samplewise.trainers.dataset_kinds import is_table, is_table_stream


def identified(dataset: Any, columns: frozenset[str] = frozenset(), *, negative: bool = False) -> Any:
    """`dataset` with a column `sample_id`: its own if it has one, else the row's number or place in the stream.

    columns: of samples, those that are read: a stream names the row whose value cannot be used. negative: whether a
    weight may be below 0.
    """
    if is_table(dataset):
        if dataset.format["type"] == "custom":  # a transform makes the columns: rows are known only when asked for
            return IdentifiedRows(dataset)
        has_ids = ID in dataset.column_names
        return dataset if has_ids else dataset.add_column(ID, list(range(len(dataset))))  # pyright: ignore[reportCallIssue]
    if isinstance(dataset, IterableDataset) or is_table_stream(dataset):
        return IdentifiedStream(dataset, columns, negative=negative)
    return IdentifiedRows(dataset)


class IdentifiedRows(Dataset):
    """A map-style dataset whose rows carry their number."""

    def __init__(self, dataset: Any) -> None:
        self.dataset = dataset

    def __len__(self) -> int:
        return len(self.dataset)

    def __getitem__(self, index: int) -> dict[str, Any]:
        return _with_id(self.dataset[index], int(index))

    def set_epoch(self, epoch: int) -> None:
        """Passed on to the dataset: the Trainer calls it at each epoch."""
        if hasattr(self.dataset, "set_epoch"):
            self.dataset.set_epoch(epoch)


class IdentifiedStream(IterableDataset):
    """A stream whose rows carry their position; with several loader workers, worker w of W counts w, w + W, …"""

    def __init__(self, dataset: Any, columns: frozenset[str] = frozenset(), *, negative: bool = False) -> None:
        self.dataset, self.columns, self.negative = dataset, columns, negative

    def __iter__(self) -> Iterator[dict[str, Any]]:
        worker = get_worker_info()
        first, step = (worker.id, worker.num_workers) if worker else (0, 1)
        for position, row in enumerate(self.dataset):
            number = first + step * position
            yield _checked_row(_with_id(row, number), self.columns, number, self.negative)

    def set_epoch(self, epoch: int) -> None:
        """Passed on to the dataset: the Trainer calls it at each epoch."""
        if hasattr(self.dataset, "set_epoch"):
            self.dataset.set_epoch(epoch)


def _with_id(row: Any, number: int) -> dict[str, Any]:
    if not isinstance(row, Mapping):
        raise SamplewiseError(
            "train_dataset", expected="rows that are mappings, such as {'input_ids': …, 'labels': …}",
            got=type(row).__name__, remedy="Return a dict from __getitem__ or __iter__.",
        )  # fmt: skip
    return dict(row) if ID in row else {**row, ID: number}


def _checked_row(row: dict[str, Any], columns: frozenset[str], number: int, negative: bool) -> dict[str, Any]:
    for column in sorted(columns & row.keys()):
        given = row[column]
        for value in given if not isinstance(given, str) and np.ndim(given) == 1 else (given,):
            try:
                checked(column, value, negative=negative)
            except SamplewiseError as error:
                raise SamplewiseError(
                    column, expected=error.expected, got=f"{error.got} in row {number} of the stream",
                    remedy=error.remedy,
                ) from None  # fmt: skip
    return row


def checked(column: str, value: Any, *, negative: bool = False) -> int | float:
    """The value of a sample's column as the number it must be. Errors: SamplewiseError naming the column.

    negative: whether a weight may be below 0.
    """
    try:
        return _whole(value) if column in (ID, GROUP) else _number(column, float(value), negative)
    except (TypeError, ValueError, OverflowError):
        raise SamplewiseError(
            column,
            expected=expected_values(column, negative=negative),
            got=repr(value)[:50],
            remedy="Fix the data, or rename the column.",
        ) from None


EXPECTED_VALUES = {
    ID: "whole numbers",
    GROUP: "whole numbers",
    WEIGHT: "finite numbers of 0 or more",
    REFERENCE: "finite losses in nats per token",
    STORED: "losses in nats per token, NaN where there is none",
}


def expected_values(column: str, *, negative: bool = False) -> str:
    """What a column must hold, for messages."""
    return "finite numbers" if column == WEIGHT and negative else EXPECTED_VALUES[column]


def _whole(value: Any) -> int:
    number = int(value)
    if number != value and not isinstance(value, str):
        raise ValueError
    return number


def _number(column: str, value: float, negative: bool) -> float:
    if column == STORED and math.isnan(value):
        return value
    if not math.isfinite(value) or (column == WEIGHT and value < 0 and not negative):
        raise ValueError
    return value

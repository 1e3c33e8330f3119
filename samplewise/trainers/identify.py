"""Sample ids from the dataset to the micro-batch: they survive column removal, collation and any sampler."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import torch
from torch.utils.data import Dataset, IterableDataset, get_worker_info

from samplewise.microbatch import ID
from samplewise.types import SamplewiseError


def identified(dataset: Any) -> Any:
    """`dataset` with a column `sample_id`: its own if it has one, else the row, or the position in the stream."""
    import datasets

    if isinstance(dataset, datasets.Dataset):
        if dataset.format["type"] == "custom":  # a transform makes the columns: rows are known only when asked for
            return IdentifiedRows(dataset)
        has_ids = ID in dataset.column_names
        return dataset if has_ids else dataset.add_column(ID, list(range(len(dataset))))  # pyright: ignore[reportCallIssue]
    if isinstance(dataset, (IterableDataset, datasets.IterableDataset)):
        return IdentifiedStream(dataset)
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
        """Passed on: the host calls it at each epoch."""
        if hasattr(self.dataset, "set_epoch"):
            self.dataset.set_epoch(epoch)


class IdentifiedStream(IterableDataset):
    """A stream whose rows carry their position; with several loader workers, worker w of W counts w, w + W, …"""

    def __init__(self, dataset: Any) -> None:
        self.dataset = dataset

    def __iter__(self) -> Iterator[dict[str, Any]]:
        worker = get_worker_info()
        first, step = (worker.id, worker.num_workers) if worker else (0, 1)
        for position, row in enumerate(self.dataset):
            yield _with_id(row, first + step * position)

    def set_epoch(self, epoch: int) -> None:
        """Passed on: the host calls it at each epoch."""
        if hasattr(self.dataset, "set_epoch"):
            self.dataset.set_epoch(epoch)


class IdentifyingCollator:
    """A data collator that sets the ids aside, lets `collate` do its work, and puts them back as int64 [B].

    `collate` must keep the order of the rows: there is no other way to know which id is whose.
    """

    def __init__(self, collate: Callable[[list[Any]], Any]) -> None:
        self.collate = collate

    def __call__(self, features: Sequence[Any]) -> dict[str, Any]:
        """What `collate` makes of the rows, and `sample_id` [B]."""
        ids = [_as_id(feature[ID]) for feature in features]
        batch = dict(self.collate([_without_id(feature) for feature in features]))
        batch[ID] = torch.tensor(ids, dtype=torch.int64)
        return batch


def _as_id(value: Any) -> int:
    try:
        return int(value)
    except (TypeError, ValueError):
        raise SamplewiseError(
            ID, expected="whole numbers", got=repr(value), remedy="Rename that column, or number the samples."
        ) from None


def _with_id(row: Any, number: int) -> dict[str, Any]:
    if not isinstance(row, Mapping):
        raise SamplewiseError(
            "train_dataset", expected="rows that are mappings, such as {'input_ids': …, 'labels': …}",
            got=type(row).__name__, remedy="Return a dict from __getitem__ or __iter__.",
        )  # fmt: skip
    return dict(row) if ID in row else {**row, ID: number}


def _without_id(feature: Mapping[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in feature.items() if key != ID}

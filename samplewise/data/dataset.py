"""Windows as torch datasets: rows {"input_ids" [T] int64, "labels" [T] int64, "sample_id" int} and further columns."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from functools import partial
from itertools import islice
from typing import Any

import torch
from torch.utils.data import Dataset, IterableDataset, get_worker_info

from samplewise.core.errors import SamplewiseError
from samplewise.data.windows import Window

Columns = Mapping[str, Callable[[Window], float]]
"""What a row has beside its text, made of its window, by column: `group`, `reference_loss` and others."""


class WindowDataset(Dataset):
    """Windows held in memory, 4 bytes a token.

    The labels are the input_ids: a model's shift leaves the first, the context token, unpredicted.
    columns: further columns, each made of the window when its row is taken.
    """

    def __init__(self, windows: Iterable[Window], columns: Columns | None = None) -> None:
        self.windows, self.columns = list(windows), dict(columns or {})
        ids = {window.id for window in self.windows}
        if len(ids) < len(self.windows):
            raise SamplewiseError(
                "windows", expected="a unique id for each", got=f"{len(self.windows) - len(ids)} repeated",
                remedy="Read a corpus once, from one root: two roots may hold files of the same name.",
            )  # fmt: skip

    def __len__(self) -> int:
        return len(self.windows)

    def __getitem__(self, index: int) -> dict[str, Any]:
        return _row(self.windows[index], self.columns)


class StreamedWindows(IterableDataset):
    """Windows made while they are read; every pass calls `windows` again and yields the same in the same order.

    DataLoader workers each read the whole stream and keep every n-th window, so that none comes twice; reading and
    tokenising are thus done n times over, and more than a few workers gain nothing.
    columns: as in `WindowDataset`.
    """

    def __init__(self, windows: Callable[[], Iterable[Window]], columns: Columns | None = None) -> None:
        self.windows, self.columns = windows, dict(columns or {})

    def __iter__(self) -> Iterator[dict[str, Any]]:
        worker = get_worker_info()
        start, step = (0, 1) if worker is None else (worker.id, worker.num_workers)
        return map(partial(_row, columns=self.columns), islice(self.windows(), start, None, step))


def _row(window: Window, columns: Columns) -> dict[str, Any]:
    ids = torch.from_numpy(window.input_ids).long()
    own = {name: of(window) for name, of in columns.items()}
    return {"input_ids": ids, "labels": ids.clone(), "sample_id": window.id, **own}

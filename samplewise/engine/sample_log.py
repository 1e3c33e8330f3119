"""A loss for every sample of every step, in Parquet files that a crash leaves whole."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import numpy as np
import torch

from samplewise.core.checkpoint import is_temporary, write_bytes
from samplewise.core.distributed import is_first
from samplewise.core.errors import SamplewiseError, missing_extra
from samplewise.core.paths import expanded
from samplewise.core.samples import Samples
from samplewise.engine.observers import StatelessObserver
from samplewise.engine.result import StepResult

MAX_ROWS_IN_MEMORY = 65_536
"""Rows held back at most before a part is written: about 2 MB."""

_PART = re.compile(r"steps-(\d+)-(\d+)\.parquet")


class SampleLog(StatelessObserver):
    """A folder of parts `steps-<first>-<last>.parquet` with the columns id, step, loss, tokens and weight.

    id: int64. step: int32, from 1. loss: float32, nats/token, NaN for a sample that a rule dropped without scoring it.
    tokens: int32, predicted ones. weight: float32, mean 1 over the step, 0 for what was left out.
    A part appears whole, under its name, or not at all. Any reader of Parquet takes the folder as one table:
    `pyarrow.parquet.read_table(folder)`.
    Cost: the arrays of a step are kept until there are `MAX_ROWS_IN_MEMORY` rows or a checkpoint is saved, then
        written at once.
    """

    def __init__(self, folder: str | Path) -> None:
        self.folder = expanded(folder)
        self._steps: list[tuple[int, dict[str, np.ndarray]]] = []
        self._rows = 0
        _pyarrow()

    def on_begin(self, step: int) -> None:
        """Forget what was written of later steps than `step`: they are run again."""
        if is_first():
            self._resume(step)

    def on_step(self, result: StepResult) -> None:
        """Record the samples of a finished step, on the first rank."""
        if is_first():
            self.add(result.step, result.samples, result.weights)

    def claim(self, trial: Any = None) -> None:
        """Errors: SamplewiseError for a trial of many; on the first rank, where the folder is another run's."""
        if trial is not None:
            raise SamplewiseError(
                "log_samples", expected="none in a hyperparameter search", got=self.folder,
                remedy="Leave it out, and log samples when you train the best trial again.",
            )  # fmt: skip
        if not is_first():
            return
        self._steps, self._rows = [], 0
        if found := self._parts():
            raise SamplewiseError(
                "log_samples", expected="a folder without the samples of another run",
                got=f"{self.folder} with {len(found)} files", remedy="Name another folder, or resume that run.",
            )  # fmt: skip

    def _resume(self, step: int) -> None:
        self._steps, self._rows = [], 0
        for left in filter(is_temporary, self.folder.glob(".steps-*")):
            left.unlink()  # a run was killed while it wrote
        for first, last, path in self._parts():
            if last <= step:
                continue
            if first <= step:
                table = _pyarrow().parquet.read_table(path)
                self._write(table.filter(_pyarrow().compute.field("step") <= step), first, step)
            path.unlink()

    def add(self, step: int, samples: Samples, weights: torch.Tensor) -> None:
        """Take in a step. weights: [N] as in its plan. A row that a sampler repeats is recorded once."""
        ids, first = np.unique(samples.id.cpu().numpy(), return_index=True)
        columns = {
            "id": ids,
            "step": np.full(len(ids), step, np.int32),
            "loss": samples.loss.cpu().numpy()[first].astype(np.float32),
            "tokens": samples.tokens.cpu().numpy()[first].astype(np.int32),
            "weight": weights.cpu().numpy()[first].astype(np.float32),
        }
        self._steps.append((step, columns))
        self._rows += len(ids)
        if self._rows >= MAX_ROWS_IN_MEMORY:
            self.flush()

    def flush(self) -> None:
        """Write what is held back as one part."""
        if not self._steps:
            return
        names = self._steps[0][1]
        whole = {name: np.concatenate([columns[name] for _, columns in self._steps]) for name in names}
        self._write(_pyarrow().table(whole), self._steps[0][0], self._steps[-1][0])
        self._steps, self._rows = [], 0

    def _write(self, table: Any, first: int, last: int) -> None:
        pa = _pyarrow()
        sink = pa.BufferOutputStream()
        pa.parquet.write_table(table, sink, compression="zstd")
        self.folder.mkdir(parents=True, exist_ok=True)
        write_bytes(self.folder / f"steps-{first:08d}-{last:08d}.parquet", sink.getvalue().to_pybytes())

    def _parts(self) -> list[tuple[int, int, Path]]:
        found = [(match, path) for path in self.folder.glob("*.parquet") if (match := _PART.fullmatch(path.name))]
        return sorted((int(match[1]), int(match[2]), path) for match, path in found)


def _pyarrow() -> Any:
    try:
        import pyarrow
        import pyarrow.compute
        import pyarrow.parquet
    except ModuleNotFoundError:
        raise missing_extra("pyarrow", "corpus", "log_samples") from None
    return pyarrow

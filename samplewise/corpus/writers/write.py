"""Records into an output of any format."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

from samplewise.corpus.writers.lines import write_lines
from samplewise.corpus.writers.mds import write_mds
from samplewise.corpus.writers.megatron import write_megatron
from samplewise.corpus.writers.output import Output
from samplewise.corpus.writers.saved_dataset import write_saved_dataset
from samplewise.corpus.writers.tables import write_parquet

Record = dict[str, Any]
Write = Callable[[Path, Iterable[Record], Output], int]

_WRITE: dict[str, Write] = {
    "parquet": write_parquet,
    "datasets": write_saved_dataset,
    "mds": write_mds,
    "mds-tokens": write_mds,
    "megatron": write_megatron,
}


def write_records(records: Iterable[Record], output: Output) -> int:
    """Write all of them, or nothing; how many there were.

    Errors: SamplewiseError for a field whose values no table can hold together, and for a value that is no JSON.
    """
    with output.whole() as path:
        return _WRITE.get(output.format, write_lines)(path, records, output)

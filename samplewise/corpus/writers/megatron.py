"""Token ids as Megatron's pair of files, tokens.bin and tokens.idx, through megatron-core."""

from __future__ import annotations

import warnings
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from samplewise.core.errors import missing_extra
from samplewise.corpus.writers.output import Output

NAME = "tokens"


def write_megatron(path: Path, records: Iterable[dict[str, Any]], output: Output) -> int:
    """Write each record's `tokens`, an array, as a document of one sequence; Megatron's `--data-path` is FOLDER/tokens.

    Ids are stored in the type of the arrays, uint16 or int32, which are those of Megatron's own preprocessing.
    """
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of what it would need for training on GPUs
            from megatron.core.datasets.indexed_dataset import (  # pyright: ignore[reportMissingImports]
                IndexedDatasetBuilder,
            )
    except ModuleNotFoundError:
        raise missing_extra("megatron-core", "megatron", "--format megatron") from None
    count, builder = 0, None
    for record in records:
        tokens = record["tokens"]
        builder = builder or IndexedDatasetBuilder(str(path / f"{NAME}.bin"), dtype=tokens.dtype.type)
        builder.add_document(tokens, [len(tokens)])
        count += 1
    if builder is not None:
        builder.finalize(str(path / f"{NAME}.idx"))
    return count

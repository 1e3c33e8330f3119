"""A folder that `datasets.load_from_disk` opens."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any

from samplewise.core.errors import missing_extra
from samplewise.corpus.writers.output import Output
from samplewise.corpus.writers.tables import tables


def write_saved_dataset(path: Path, records: Iterable[dict[str, Any]], output: Output) -> int:
    """Write with `Dataset.save_to_disk`; a shard holds about `shard_bytes`, by default those of `datasets`."""
    try:
        from datasets import Dataset, Features
        from datasets.arrow_writer import ArrowWriter
    except ModuleNotFoundError:
        raise missing_extra("datasets", "hf", "--format datasets") from None
    whole = path.with_name(f"{path.name}.arrow")  # one file, which save_to_disk divides into shards
    try:
        with tables(records) as found:
            with ArrowWriter(path=str(whole), features=Features.from_arrow_schema(found.schema)) as writer:
                for table in found.batches():
                    writer.write_table(table)
                writer.finalize()
            Dataset.from_file(str(whole)).save_to_disk(path, max_shard_size=output.shard_bytes)
            return found.rows
    finally:
        whole.unlink(missing_ok=True)

"""The columns of a shard, and shards to and from Parquet."""

from __future__ import annotations

import io
from typing import Any

from samplewise.core.errors import missing_extra
from samplewise.corpus.manifest import Shard, shard_of
from samplewise.corpus.place import Place

COLUMNS = {
    "id": "int64", "doc_id": "int64", "source": "string", "row": "int64", "window": "int32",
    "n_tokens": "int32", "n_bytes": "int32", "loss": "float", "loss_q10": "float", "loss_q50": "float",
    "loss_q90": "float", "loss_change": "float", "completion_loss": "float", "completion_tokens": "int32",
    "answer_loss": "float", "group": "string", "text": "string",
}  # fmt: skip
"""Name -> Arrow type. The last five are there only where the corpus or the command has them; kept fields follow."""
LOSSES = ("loss", "loss_q10", "loss_q50", "loss_q90", "loss_change", "completion_loss")
"""Those that a corpus has only once a model has read it."""
OPTIONAL = ("loss_change", "completion_loss", "completion_tokens", "answer_loss", "group", "text")


def arrow() -> Any:
    """pyarrow, with its Parquet module. Raises SamplewiseError where it is not installed."""
    try:
        import pyarrow
        import pyarrow.parquet
    except ModuleNotFoundError:
        raise missing_extra("pyarrow", "corpus", "scores") from None
    return pyarrow


def schema_of(columns: dict[str, str]) -> Any:
    """The Arrow schema of named columns.

    >>> schema_of({"id": "int64", "loss": "float"}).names
    ['id', 'loss']
    """
    pa = arrow()
    return pa.schema([(name, pa.type_for_alias(kind)) for name, kind in columns.items()])


def write_shard(place: Place, name: str, columns: dict[str, Any], types: dict[str, str]) -> Shard:
    """A shard from lists or arrays of equal length, whole or not at all. The same values give the same bytes."""
    pa = arrow()
    schema = schema_of(types)
    table = pa.table({field.name: pa.array(columns[field.name], field.type) for field in schema}, schema=schema)
    return write_table(place, name, table)


def write_table(place: Place, name: str, table: Any) -> Shard:
    """A shard from an Arrow table."""
    buffer = io.BytesIO()
    # ids are random and take as many bytes either way; a dictionary of them would only cost memory
    arrow().parquet.write_table(
        table, buffer, compression="zstd", use_dictionary=["source"] if "source" in table.column_names else False,
        row_group_size=2**17, write_page_index=True,
    )  # fmt: skip
    data = buffer.getvalue()
    place.write(name, data)
    return shard_of(name, table.num_rows, data)

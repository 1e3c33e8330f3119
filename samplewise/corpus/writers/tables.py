"""Records as tables of one schema, known only after the last record: a field may come late, or be null first."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from samplewise.core.errors import SamplewiseError
from samplewise.core.replaced import temporary_folder
from samplewise.corpus.writers.output import Output

ROWS, CHARACTERS = 2000, 2**26
"""Of a batch at most: what is held in memory."""
REMEDY = "Give the field one type in all records, or write .jsonl, which holds any."


@dataclass(frozen=True)
class Tables:
    """Batches on disk. files: (file, whether it has the whole schema already). nulls: of each column, how many."""

    schema: Any
    files: list[Path]
    nulls: dict[str, int]
    rows: int

    def batches(self) -> Iterator[Any]:
        """pyarrow.Table after table, each of the whole schema."""
        import pyarrow as pa

        for path in self.files:
            with pa.memory_map(str(path)) as source, pa.ipc.open_stream(source) as reader:
                for batch in reader:
                    yield _whole(pa.Table.from_batches([batch]), self.schema)


@contextmanager
def tables(records: Iterable[dict[str, Any]]) -> Iterator[Tables]:
    """All records, written to the folder for temporary files, with the schema that holds them all.

    Errors: SamplewiseError naming a field whose values no column can hold.
    """
    import pyarrow as pa

    with temporary_folder() as temporary:
        files: list[Path] = []
        writer, schema, rows = None, pa.schema([]), 0
        nulls: dict[str, int] = {}
        for some in _held(records):
            table = _table(some, rows)
            _count_nulls(nulls, table, rows)
            schema, rows = _unified(schema, table.schema, rows), rows + len(some)
            if writer is None or writer[1] != table.schema:
                if writer is not None:
                    writer[0].close()
                files.append(Path(temporary) / f"{len(files)}.arrow")
                writer = pa.ipc.new_stream(str(files[-1]), table.schema), table.schema
            writer[0].write_table(table)
        if writer is not None:
            writer[0].close()
        if rows and not schema.names:
            raise SamplewiseError("records", expected="a field", got="records without any", remedy=REMEDY)
        schema = pa.schema([pa.field(own.name, _stated(own.type)) for own in schema])
        yield Tables(schema, files, nulls, rows)


def write_parquet(path: Path, records: Iterable[dict[str, Any]], output: Output) -> int:
    """Write Parquet. Files of a folder end with the batch that takes them past `shard_bytes` in memory."""
    import pyarrow.parquet as pq

    with tables(records) as found:
        batches, shard = found.batches(), 0
        table = next(batches, None) if found.rows else found.schema.empty_table()
        while table is not None:
            name = path / f"part-{shard:05d}.parquet" if output.folder else path
            size, shard = 0, shard + 1
            with _refused(), pq.ParquetWriter(name, found.schema, compression="zstd") as writer:
                while table is not None and (output.shard_bytes is None or size < output.shard_bytes):
                    writer.write_table(table)
                    size, table = size + table.nbytes, next(batches, None)
        return found.rows


def _held(records: Iterable[dict[str, Any]]) -> Iterator[list[dict[str, Any]]]:
    """Records by the batch, fewer where their texts are long."""
    some: list[dict[str, Any]] = []
    size = 0
    for record in records:
        some.append(record)
        size += sum(len(value) for value in record.values() if isinstance(value, str))
        if len(some) == ROWS or size > CHARACTERS:
            yield some
            some, size = [], 0
    if some:
        yield some


def _table(records: list[dict[str, Any]], before: int) -> Any:
    """The records' fields as columns, in the order in which they come up; pyarrow alone takes the first record's."""
    import pyarrow as pa

    names = dict.fromkeys(name for record in records for name in record)
    columns = {}
    for name in names:
        try:
            columns[str(name)] = pa.array([record.get(name) for record in records])
        except (pa.ArrowInvalid, pa.ArrowTypeError, OverflowError, UnicodeEncodeError) as error:
            raise _unfit(str(name), error, before) from None
    return pa.table(columns)


def _unified(schema: Any, more: Any, before: int) -> Any:
    import pyarrow as pa

    try:
        return pa.unify_schemas([schema, more], promote_options="permissive")
    except (pa.ArrowTypeError, pa.ArrowInvalid) as error:
        name = next((f.name for f in more if f.name in schema.names and f.type != schema.field(f.name).type), "?")
        raise _unfit(name, error, before) from None


def _stated(kind: Any) -> Any:
    """The type with text in place of what was always null: Parquet does not read lists of such nulls again."""
    import pyarrow as pa

    if pa.types.is_null(kind):
        return pa.string()
    if pa.types.is_list(kind):
        return pa.list_(_stated(kind.value_type))
    if pa.types.is_struct(kind):
        return pa.struct([pa.field(own.name, _stated(own.type)) for own in kind.fields])
    return kind


def _unfit(name: str, error: Exception, before: int) -> SamplewiseError:
    got = f"in a record after the first {before:,}: {' '.join(str(error).split())[:200]}"
    return SamplewiseError(f"field {name!r}", expected="values that one column can hold", got=got, remedy=REMEDY)


def _count_nulls(nulls: dict[str, int], table: Any, before: int) -> None:
    for name in nulls.keys() - set(table.column_names):
        nulls[name] += table.num_rows
    for name in table.column_names:
        nulls[name] = nulls.get(name, before) + table.column(name).null_count


def _whole(table: Any, schema: Any) -> Any:
    """The table with every column of the schema. A whole number that no float holds exactly is refused."""
    import pyarrow as pa

    columns = []
    for field in schema:
        if field.name not in table.column_names:
            columns.append(pa.nulls(table.num_rows, field.type))
            continue
        try:
            columns.append(table.column(field.name).cast(field.type))
        except (pa.ArrowInvalid, pa.ArrowNotImplementedError) as error:
            raise SamplewiseError(
                f"field {field.name!r}", expected="values that one column can hold", got=str(error), remedy=REMEDY
            ) from None
    return pa.table(columns, schema=schema)


@contextmanager
def _refused() -> Iterator[None]:
    import pyarrow as pa

    try:
        yield
    except pa.ArrowNotImplementedError as error:  # such as a field that holds only empty objects
        raise SamplewiseError("records", expected="values that Parquet holds", got=str(error), remedy=REMEDY) from None

"""Scores at reading: one table over all shards, with the named columns of later runs joined to it by id.

Nothing here holds a whole table, except where a function says so.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from samplewise.core import notebook
from samplewise.core.errors import SamplewiseError, missing_extra
from samplewise.corpus.amounts import memory_bytes
from samplewise.corpus.manifest import MANIFEST, Manifest, Shard, check_files, read_manifest
from samplewise.corpus.place import Place
from samplewise.corpus.table import COLUMNS, LOSSES, OPTIONAL, arrow
from samplewise.corpus.verify import verify_files

if TYPE_CHECKING:
    import numpy as np
else:
    from samplewise.core.lazy import numpy as np

ADDED = "columns"
"""The folder of named columns, each in a folder of its name."""


@dataclass(frozen=True)
class Scores:
    """A finished folder of scores. added: the named columns of later runs, name -> manifest.

    joined: further columns, losses of other folders; the view of `connect` alone has them.
    """

    place: Place
    manifest: Manifest
    added: dict[str, Manifest]
    joined: dict[str, Scores] = field(default_factory=dict)

    def __len__(self) -> int:
        return self.manifest.windows

    @property
    def columns(self) -> list[str]:
        """All columns, the added ones last."""
        return [*self.manifest.columns, *self.added, *self.joined]

    @property
    def key(self) -> str:
        """The column of the losses that weights and selections go by."""
        return "completion_loss" if "completion_tokens" in self.manifest.columns else "loss"

    def connect(self, *, memory: str = "2GB", threads: int | None = None, temporary: str | None = None) -> Any:
        """A DuckDB connection with the view `scores`: every column, rows in no promised order; ORDER BY what you need.

        `window` and `group` are words of SQL: write "window" and "group" in quotes.

        memory: what DuckDB may hold; above it, it writes to `temporary`, a folder (default: DuckDB's own).
        """
        self.place.list_for_readers(["", *(f"{ADDED}/{name}" for name in self.added)])
        connection = duckdb_for(self.place, memory, temporary)
        if threads is not None:
            connection.execute(f"SET threads = {int(threads)}")
        files = [self.place.inside(shard.name) for shard in self.manifest.shards]
        relation = connection.read_parquet(files).set_alias("base")
        for name, manifest in self.added.items():
            own = [self.place.inside(f"{ADDED}/{name}/{shard.name}") for shard in manifest.shards]
            relation = relation.join(connection.read_parquet(own), "id", how="left").set_alias(f"with_{name}")
        for name, other in self.joined.items():
            files = [other.place.inside(shard.name) for shard in other.manifest.shards]
            own = connection.read_parquet(files).project(f'id, {other.key} AS "{name}"')
            relation = relation.join(own, "id", how="left").set_alias(f"with_{name}")
        relation.create_view("scores")
        return connection

    def batches(self, columns: Sequence[str] | None = None, rows: int = 2**16) -> Iterator[Any]:
        """pyarrow.RecordBatch after RecordBatch in the order of the corpus. columns: default all."""
        wanted = [*self.manifest.columns, *self.added] if columns is None else list(columns)
        self.check_columns(wanted)
        for index in range(len(self.manifest.shards)):
            yield from self._shard(index, wanted).to_batches(max_chunksize=rows)

    def to_arrow(self, columns: Sequence[str] | None = None) -> Any:
        """A pyarrow.Table in memory, in the order of the corpus. columns: default all."""
        pa, found = arrow(), list(self.batches(columns))
        return pa.Table.from_batches(found)

    def to_pandas(self, columns: Sequence[str] | None = None) -> Any:
        """A pandas.DataFrame in the order of the corpus; needs pandas. columns: default all."""
        return self.to_arrow(columns).to_pandas()

    def to_polars(self, columns: Sequence[str] | None = None) -> Any:
        """A polars.DataFrame in the order of the corpus; needs polars. columns: default all."""
        try:
            import polars
        except ModuleNotFoundError:
            raise SamplewiseError(
                "polars", expected="an installed package", got="none", remedy="pip install polars"
            ) from None
        return polars.from_arrow(self.to_arrow(columns))

    def _repr_html_(self) -> str:
        """What was scored, and how many."""
        made = self.manifest.made
        counts = {"windows": self.manifest.windows, "rows scored": self.manifest.rows_scored}
        told = {**counts, "rows quarantined": self.manifest.rows_quarantined, "columns": ", ".join(self.columns)}
        return notebook.table({**made, **told}, "scores")

    def check_columns(self, names: Sequence[str]) -> None:
        """Raises SamplewiseError on a name that is not there."""
        for name in names:
            if name not in self.columns:
                raise SamplewiseError(
                    "column", expected=f"one of {', '.join(self.columns)}", got=repr(name),
                    remedy=self._remedy(name),
                )  # fmt: skip

    def _remedy(self, name: str) -> str:
        if name in LOSSES and not self.manifest.has_losses:
            return (
                "These windows were cut without losses. Score the corpus with --model into another folder, or add a "
                "column of losses with samplewise score --model … --as NAME and name that column."
            )
        return f"Name one of these. samplewise score … --as {name} adds a model's losses."

    def verify(self, *, known: bool = False) -> None:
        """Read files whole and compare their checksums. known: only those that have changed since they were last read.

        Raises SamplewiseError naming the first that is another.
        """
        verify_files(self.place, self._files(), known=known)

    def _files(self) -> dict[str, Shard]:
        """All files by their name in the place."""
        added = {f"{ADDED}/{name}/{s.name}": s for name, each in self.added.items() for s in each.shards}
        return {shard.name: shard for shard in self.manifest.shards} | added

    def _shard(self, index: int, wanted: list[str]) -> Any:
        base = [name for name in wanted if name in self.manifest.columns]
        table = self._read(self.manifest.shards[index].name, ["id", *(name for name in base if name != "id")])
        for name in (name for name in wanted if name in self.added):
            own = self._read(f"{ADDED}/{name}/{self.added[name].shards[index].name}", ["id", name])
            if not own["id"].equals(table["id"]):
                raise SamplewiseError(
                    f"{ADDED}/{name}", expected="the ids of the scores, shard by shard", got=f"others in shard {index}",
                    remedy=f"Remove {self.place.inside(f'{ADDED}/{name}')} and score that column again.",
                )  # fmt: skip
            table = table.append_column(name, own[name])
        return table.select(wanted)

    def _read(self, name: str, columns: list[str]) -> Any:
        with readable(self.place), self.place.open(name) as file:
            return arrow().parquet.read_table(file, columns=columns)


def open_scores(path: str | Path, *, verify: bool = True) -> Scores:
    """The scores in a folder, local or a URL that fsspec knows.

    verify: read every file once and compare its checksum; what was verified is remembered in the folder, until it
    changes. Costs about 1 s a GB at the first time, and a look at each file's time later.
    Raises SamplewiseError where none have been finished there, or files are gone, cut or changed.

    >>> open_scores("no/such/folder")
    Traceback (most recent call last):
    samplewise.core.errors.SamplewiseError: scores: expected a folder that samplewise score has finished, got ...
    """
    place = Place(path)
    manifest = read_manifest(place)
    names = [name for name in place.names(ADDED) if place.exists(f"{ADDED}/{name}/manifest.json")]
    added = {name: read_manifest(place, f"{ADDED}/{name}") for name in names}
    _check_columns(place, manifest, added)
    check_files(place, manifest)
    for name, each in added.items():
        check_files(place, each, f"{ADDED}/{name}")
    scores = Scores(place, manifest, added)
    if verify:
        scores.verify(known=True)
    return scores


def _check_columns(place: Place, manifest: Manifest, added: dict[str, Manifest]) -> None:
    """Raises SamplewiseError where manifests name columns or shards that do not belong together."""
    spared = (*OPTIONAL, *(() if manifest.has_losses else LOSSES))
    lost = [name for name, kind in COLUMNS.items() if name not in spared and manifest.columns.get(name) != kind]
    if lost:
        raise SamplewiseError(
            place.inside(MANIFEST), expected=f"the columns of scores with their types, {', '.join(COLUMNS)}",
            got=f"another type of {lost[0]}, or none", remedy="The folder is damaged: score again into another one.",
        )  # fmt: skip
    for name, each in added.items():
        if set(each.columns) != {"id", name} or len(each.shards) != len(manifest.shards):
            raise SamplewiseError(
                place.inside(f"{ADDED}/{name}"),
                expected=f"the columns id and {name} in as many shards as the scores, {len(manifest.shards):,}",
                got=f"{', '.join(each.columns)} in {len(each.shards):,}",
                remedy="Remove it and score that column again.",
            )  # fmt: skip


@contextmanager
def readable(place: Place) -> Iterator[None]:
    """Raises SamplewiseError for what readers of Parquet raise on damaged files, full disks and too little memory."""
    try:
        yield
    except (SamplewiseError, MemoryError):  # Arrow's is one of Python's
        raise
    except Exception as error:
        said = " ".join(str(error).split())[:300]
        by = {own.__module__.partition(".")[0] for own in type(error).__mro__}  # pyarrow's are of `pyarrow.lib`
        own = isinstance(error, OSError) and str(error.filename or place.url).startswith(place.url)
        if by.isdisjoint(("duckdb", "_duckdb", "pyarrow")) and not own:
            raise
        if "OutOfMemory" in type(error).__name__:
            raise SamplewiseError("--memory", expected="more", got=said, remedy="Raise --memory.") from error
        if "space left" in said or "temp_directory" in said:
            raise SamplewiseError(
                "disk",
                expected="space for temporary files",
                got=said,
                remedy="Free disk space, or set TMPDIR to a folder with more.",
            ) from error
        raise SamplewiseError(
            "scores", expected="Parquet files as samplewise score writes them", got=f"{place}: {said}",
            remedy="Restore the files, or score again into another folder.",
        ) from error  # fmt: skip


def column(scores: Scores | str | Path, name: str = "loss") -> tuple[np.ndarray, np.ndarray]:
    """(ids [n] int64, values [n]) of one column in the order of the corpus: 12 to 16 bytes a row in memory."""
    scores = scores if isinstance(scores, Scores) else open_scores(scores)
    ids, values = np.empty(len(scores), np.int64), []
    at = 0
    for batch in scores.batches(["id", name]):
        ids[at : at + batch.num_rows] = batch.column("id").to_numpy()
        values.append(batch.column(name).to_numpy(zero_copy_only=False))
        at += batch.num_rows
    return ids, np.concatenate(values) if values else np.empty(0, np.float32)


def check_name(name: str, option: str = "--as") -> str:
    """The name of an added column. Raises SamplewiseError on one that cannot name a column and a folder.

    >>> check_name("reference")
    'reference'
    """
    if not re.fullmatch(r"[A-Za-z][A-Za-z0-9_]{0,63}", name) or name in COLUMNS:
        raise SamplewiseError(
            option, expected=f"a name of letters, digits and _, none of {', '.join(COLUMNS)}", got=repr(name),
            remedy="Choose another name, for example reference.",
        )  # fmt: skip
    return name


def duckdb_for(place: Place, memory: str, temporary: str | None) -> Any:
    """A connection that can read this place. memory: what it may hold, as `memory_bytes` reads it.

    temporary: the folder for what it does not hold; None for DuckDB's own, in the current folder.
    """
    limit = memory_bytes(memory)
    try:
        import duckdb
    except ModuleNotFoundError:
        raise missing_extra("duckdb", "corpus", "scores") from None
    connection = duckdb.connect(config={"memory_limit": f"{limit // 1000}KB"})
    if place.remote:
        connection.register_filesystem(place.files)
    if temporary is not None:
        connection.execute("SET temp_directory = ?", [temporary])
    return connection

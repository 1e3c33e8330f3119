"""The parts of a corpus: by file, length, any column of the scores, or any field of the records, hosts of URLs too."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Any

from samplewise.core.errors import SamplewiseError, nearest
from samplewise.corpus.table import COLUMNS
from samplewise.data.conversation import Conversation
from samplewise.data.fields import as_text, field_of, names_of
from samplewise.data.read import Document

Records = Callable[[], Iterable[Document | Conversation]]
BUCKETS = "length"
"""The name that `within` gives buckets of token counts: [1, 2), [2, 4), [4, 8), …"""
RECORD = "record."
"""Before the name of a field of the records that a column of the scores has too."""
READ = "field of the records: "
"""Before the name of a field in the column that holds what the records were read for."""
TOGETHER = 2**16
"""Records read before their values go into a table."""


@dataclass(frozen=True)
class Within:
    """What parts are made of. column: of the scores, or made of a field of the records; None for one part and lengths.

    field: of the records, where they must be read for it. host: whether the parts are the hosts of its URLs.
    """

    text: str | None
    column: str | None = None
    field: str | None = None
    host: bool = False

    @property
    def sql(self) -> str:
        """SQL of the part of a sample."""
        if self.text is None:
            return "0"
        if self.text == BUCKETS:
            return f"floor(ln(greatest(n_tokens, 1) + 0.5) / {math.log(2)!r})::INTEGER"
        if self.text == "source":
            return "source"
        name = quoted(self.column)
        if self.host:
            found = f"regexp_extract(lower({name}::VARCHAR), '{HOST}', 1)"
            return f"coalesce(nullif({found}, ''), 'none')"
        return f"coalesce({name}::VARCHAR, 'none')"


HOST = r"^\s*(?:[a-z][a-z0-9+.-]*://)?(?:[^/@?#]*@)?(\[[^\]]*\]|[^/:?#\s]+)"


def within_of(text: str | None, columns: Iterable[str]) -> Within:
    """What `--within` means. columns: of the scores.

    >>> within_of("host(url)", ["id", "url"])
    Within(text='host(url)', column='url', field=None, host=True)
    >>> within_of("meta.domain", ["id"]).field
    'meta.domain'
    """
    if text is None or text in (BUCKETS, "source"):
        return Within(text)
    known = set(columns)
    found = None if text in known else re.fullmatch(r"host\((.+)\)", text)
    name = found[1] if found else text
    if name in known:
        return Within(text, column=name, host=bool(found))
    field = name.removeprefix(RECORD)
    return Within(text, READ + field, field, bool(found))


def read_fields(connection: Any, fields: Sequence[Within], records: Records) -> None:
    """Make the table `record_fields`: source, row and the fields, of every record of the corpus, in one reading.

    Raises SamplewiseError where no record has a field, and where it holds lists or objects.
    """
    import pyarrow as pa

    columns = [str(each.column) for each in fields]
    made = ", ".join(f"{quoted(name)} VARCHAR" for name in columns)
    connection.execute(f"CREATE OR REPLACE TEMP TABLE record_fields (source VARCHAR, row BIGINT, {made})")
    seen: dict[str, None] = {}
    met: set[str] = set()
    values = _values(fields, records(), seen)
    kinds = [pa.string(), pa.int64(), *(pa.string() for _ in columns)]
    while rows := list(islice(values, TOGETHER)):
        arrays = [pa.array(each, kind) for each, kind in zip(zip(*rows, strict=True), kinds, strict=True)]
        table = pa.table(arrays, names=["source", "row", *columns])
        met |= {name for name in columns if table[name].null_count < len(rows)}
        connection.register("read_now", table)
        connection.execute("INSERT INTO record_fields SELECT * FROM read_now")
        connection.unregister("read_now")
    for each in fields:
        if each.column not in met:
            raise _nowhere(each, seen)


def _values(
    fields: Sequence[Within], entries: Iterable[Document | Conversation], seen: dict[str, None]
) -> Iterator[tuple[Any, ...]]:
    for count, entry in enumerate(entries):
        if count < 1000 and entry.record is not None:
            seen.update(dict.fromkeys(names_of(entry.record)))
        found = [field_of(entry.record, str(each.field)) for each in fields]
        for within, value in zip(fields, found, strict=True):
            if isinstance(value, list | tuple | dict):
                raise several(within, f"{entry.source}, record {entry.row}", value)
        yield entry.source, entry.row, *map(as_text, found)


def check_kept(connection: Any, within: Within) -> None:
    """Raises SamplewiseError where a kept field holds lists or objects, which the scores have as JSON."""
    if within.column is None or within.column in COLUMNS or within.field is not None:
        return
    column = quoted(within.column)
    found = connection.execute(f"""
        SELECT {column}, any_value(source), any_value(row) FROM scored
        WHERE {column}::VARCHAR LIKE '[%' OR {column}::VARCHAR LIKE '{{%' GROUP BY ALL LIMIT 1000
    """).fetchall()
    for value, source, row in found:
        try:
            several_values = json.loads(value)
        except (ValueError, RecursionError):
            continue
        raise several(within, f"{source}, record {row}", several_values)


def several(within: Within, place: str, value: object) -> SamplewiseError:
    """The error of a field that holds more than one value."""
    return SamplewiseError(
        f"parts by {within.text}", expected="one value in each record", got=f"a {type(value).__name__} in {place}",
        remedy="Name a field inside it with a dot, or write the value that counts into a field of its own.",
    )  # fmt: skip


def _nowhere(within: Within, seen: Iterable[str]) -> SamplewiseError:
    names = list(seen)
    there = f"records with {', '.join(names[:20])}" if names else "records without fields"
    near = nearest(within.field or "", names) if names else ""
    return SamplewiseError(
        f"parts by {within.text}", expected="source, length, a column of the scores or a field of the records",
        got=f"{there}, and none with {within.field}", remedy=near or "Name source, length or a column of the scores.",
    )  # fmt: skip


def quoted(name: str | None) -> str:
    """A column's name as SQL."""
    return '"' + str(name).replace('"', '""') + '"'


def part_name(within: str | None, part: object) -> str:
    """The name of a part of the corpus, for people to read.

    >>> part_name("length", 6), part_name("source", "a.jsonl")
    ('64 to 127 tokens', 'a.jsonl')
    """
    if within == BUCKETS and isinstance(part, int):
        return f"{2**part} to {2 ** (part + 1) - 1} tokens"
    return "all" if within is None else str(part)

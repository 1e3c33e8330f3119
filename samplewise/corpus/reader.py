"""A corpus as blocks of records, each the work of one shard: where a block ends depends on the text alone."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any, Literal

from samplewise.corpus.files import Listed, refuse_changed
from samplewise.data.conversation import Conversation
from samplewise.data.formats import read_records
from samplewise.data.read import Document, text_of
from samplewise.data.records import Problem, Record
from samplewise.data.row_shapes import conversation_of
from samplewise.data.sources import load_rows

MOST_RECORDS = 20_000
"""Of one block, however short they are."""

Kind = Literal["text", "instructions"]
Rows = Callable[[], Iterable[tuple[str, int, None, Record]]]
"""The rows of a `datasets` name."""


@dataclass(frozen=True)
class Quarantined:
    """A record that is not scored, and why."""

    source: str
    row: int
    line: int | None
    reason: str
    got: str


Entry = Document | Conversation | Quarantined


@dataclass(frozen=True)
class Position:
    """The next record: the number of its file, its row there, and how many records come before it in all."""

    file: int = 0
    row: int = 0
    records: int = 0


@dataclass(frozen=True)
class Block:
    """entries: one a record. end: the position after it. last: whether nothing follows. share: of the corpus, so far.

    size: bytes of the text, roughly.
    """

    entries: list[Entry]
    end: Position
    last: bool
    share: float


@dataclass(frozen=True)
class Reading:
    """What to read of each record. limit: records of the whole corpus at most, the first ones.

    keep: whether documents and conversations bring their whole record along, and not the text alone.
    """

    kind: Kind = "text"
    field: str = "text"
    format: str = "auto"
    limit: int | None = None
    keep: bool = False


class Reader:
    """Reads a corpus forwards. files: as `list_corpus` gives them, or the rows of a `datasets` name."""

    def __init__(self, files: Listed | Rows, reading: Reading) -> None:
        self.files, self.reading = files, reading
        self.at = Position()
        self._records = self._from(0)
        self._next: tuple[Position, str, int, int | None, Record] | None = None

    def skip_to(self, position: Position) -> None:
        """Continue at a later position, without opening the whole files in between."""
        if position.records == self.at.records:
            return
        if position.file != self.at.file:
            self._records, self._next = self._from(position.file), None
            behind = position.row
        else:
            behind = position.records - self.at.records
        for _ in range(behind):
            self._take()
        self.at = position

    def block(self, most_bytes: int) -> Block:
        """The records from here on, until they reach so many bytes of text or `MOST_RECORDS`.

        Errors: SamplewiseError where one of their files was written to since it was listed.
        """
        entries: list[Entry] = []
        size, first = 0, self.at.file
        while size < most_bytes and len(entries) < MOST_RECORDS and not self._ended():
            found = self._take()
            assert found is not None
            place, source, row, line, record = found
            entry, bytes_ = self._entry(source, row, line, record)
            entries.append(entry)
            size += bytes_
            self.at = Position(place.file, place.row + 1, self.at.records + 1)
        if not callable(self.files):
            refuse_changed(self.files[first : self.at.file + 1])
        return Block(entries, self.at, self._ended(), self._share())

    def _ended(self) -> bool:
        if self.reading.limit is not None and self.at.records >= self.reading.limit:
            return True
        self._next = self._next or next(self._records, None)
        return self._next is None

    def _take(self) -> tuple[Position, str, int, int | None, Record] | None:
        found, self._next = self._next or next(self._records, None), None
        return found

    def _from(self, start: int) -> Iterator[tuple[Position, str, int, int | None, Record]]:
        if callable(self.files):
            for source, row, line, record in self.files():
                yield Position(0, row), source, row, line, record
            return
        for number in range(start, len(self.files)):
            source, file = self.files[number]
            own: Any = file  # what read_records needs of a path, a SourceFile has
            records: Any = [(None, file)]
            if not isinstance(file, Problem):
                alone = self.reading.kind == "text" and not self.reading.keep
                records = read_records(own, self.reading.field if alone else None)
            for row, (line, record) in enumerate(records):
                yield Position(number, row), source, row, line, record

    def _entry(self, source: str, row: int, line: int | None, record: Record) -> tuple[Entry, int]:
        if self.reading.kind == "text":
            found = text_of(record, self.reading.field)
            if isinstance(found, str):
                size = len(found)
                if not found.strip():
                    return self._kept(Problem("empty", "text", "white space", ""), source, row, line), size
                return Document(found, source, row, self._record(record)), size
        elif isinstance(record, Problem | str):
            found = record if isinstance(record, Problem) else Problem("no row", "a row of fields", "a text", "")
        else:
            found = conversation_of(record, self.reading.format, source, row, line)
            if isinstance(found, Conversation):
                return replace(found, record=self._record(record)), len(found.text)
        return self._kept(found, source, row, line), 0

    def _record(self, record: Record) -> Mapping[str, object] | None:
        return record if self.reading.keep and isinstance(record, Mapping) else None

    def _kept(self, found: Problem, source: str, row: int, line: int | None) -> Quarantined:
        return Quarantined(source, row, line, found.reason, found.got[:500])

    def _share(self) -> float:
        limit = self.reading.limit
        of_limit = self.at.records / limit if limit else 0.0
        if callable(self.files):
            return of_limit  # the end of the rows is not known
        sizes = [0 if isinstance(file, Problem) else file.size for _, file in self.files]
        done = sum(sizes[: self.at.file])
        file = self.files[self.at.file][1] if self.at.file < len(sizes) else None
        if file is not None and not isinstance(file, Problem):
            done += file.share_read() * file.size
        return max(done / max(sum(sizes), 1), of_limit)


def rows_of(name: str, config: str | None, split: str, streaming: bool) -> Rows:
    """The rows of a `datasets` name, from the first on at each call."""
    return lambda: load_rows(name, config, split, streaming)

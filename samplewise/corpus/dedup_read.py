"""The records of a corpus as they are, each with the text that it is compared by."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, NamedTuple

from samplewise.corpus.files import Listed, list_corpus, refuse_changed
from samplewise.corpus.reader import Kind, Rows, rows_of
from samplewise.data.formats import FORMATS, read_records
from samplewise.data.ids import document_id
from samplewise.data.instructions import SUFFIXES
from samplewise.data.read import text_of
from samplewise.data.records import Problem, Record
from samplewise.data.row_shapes import conversation_of
from samplewise.data.sources import is_local
from samplewise.data.urls import is_url


class Found(NamedTuple):
    """A record. text: what it is compared by, or why it has none. id: as in scores (`doc_id`)."""

    source: str
    row: int
    line: int | None
    record: Record
    text: str | Problem
    id: int


@dataclass(frozen=True)
class Corpus:
    """What is read. data: as in `samplewise score`. kind, text_field, format: of the records; the rest: of a
    `datasets` name.
    """

    data: str
    kind: Kind = "text"
    text_field: str = "text"
    format: str = "auto"
    config: str | None = None
    split: str = "train"
    streaming: bool = False

    def listed(self) -> Listed | Rows:
        """The files, or the rows of a `datasets` name."""
        if is_url(self.data) or is_local(self.data) or self.data.startswith("file://"):
            return list_corpus(self.data, SUFFIXES if self.kind == "instructions" else tuple(FORMATS))[0]
        return rows_of(self.data, self.config, self.split, self.streaming)

    def records(self, listed: Listed | Rows, whole: bool) -> Iterator[Found]:
        """Every record in order. whole: with all its fields, not with the text alone where a format can leave them."""
        for source, row, line, record in self._raw(listed, whole):
            if self.kind == "text":
                text = text_of(record, self.text_field)
                if isinstance(text, str) and not text.strip():
                    text = Problem("empty", "text", "white space", "")
                yield Found(source, row, line, record, text=text, id=document_id(source, row))
            else:
                yield _instruction(source, row, line, record, self.format)

    def _raw(self, listed: Listed | Rows, whole: bool) -> Iterator[tuple[str, int, int | None, Record]]:
        if callable(listed):
            yield from listed()
            return
        for source, file in listed:
            if isinstance(file, Problem):
                yield source, 0, None, file
                continue
            own: Any = file  # what read_records needs of a path, a SourceFile has
            field = None if whole or self.kind == "instructions" else self.text_field
            for row, (line, record) in enumerate(read_records(own, field)):
                yield source, row, line, record
            refuse_changed([(source, file)])


def _instruction(source: str, row: int, line: int | None, record: Record, format: str) -> Found:
    found: Any = record
    if isinstance(record, str):
        found = Problem("no row", "a row of fields", "a text", "")
    elif not isinstance(record, Problem):
        found = conversation_of(record, format, source, row, line)
    if isinstance(found, Problem):
        return Found(source, row, line, record, text=found, id=document_id(source, row))
    return Found(source, row, line, record, text=found.text, id=found.id)

"""Whether rows are documents or conversations, and where their text is: from the first record."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from samplewise.core.errors import SamplewiseError
from samplewise.data.read import file_records
from samplewise.data.records import Problem
from samplewise.data.remote import list_files
from samplewise.data.row_shapes import FIELDS
from samplewise.data.sources import is_local, load_rows

TEXT_FIELDS = ("text", "content", "document", "raw_content", "body", "code")
"""Where corpora keep their text; the first that a record has is taken."""


@dataclass(frozen=True)
class RowKind:
    """kind: "text" or "instructions". shape: of conversations, one of `FIELDS`. text_field: of text in records."""

    kind: str
    shape: str | None = None
    text_field: str | None = None


def kind_of_rows(path: str, config: str | None = None, split: str = "train") -> RowKind:
    """What the first record of a file, folder, glob or `datasets` name is.

    Errors: SamplewiseError where there is no record, or one with neither a text nor the fields of a conversation.
    """
    record = _first(path, config, split)
    if isinstance(record, str):
        return RowKind("text")
    for shape, needed in FIELDS.items():
        if all(field in record for field in needed):
            return RowKind("instructions", shape=shape)
    for field in TEXT_FIELDS:
        if isinstance(record.get(field), str):
            return RowKind("text", text_field=field)
    known = ", ".join(" and ".join(needed) for needed in FIELDS.values())
    raise SamplewiseError(
        path, expected=f"rows with a field {', '.join(TEXT_FIELDS)}, or with the fields {known}",
        got=f"the fields {', '.join(map(str, record)) or '(none)'}", remedy="Name the field of the text text.",
    )  # fmt: skip


def _first(path: str, config: str | None, split: str) -> str | Mapping[Any, Any]:
    if is_local(path):
        records = (record for *_, record in file_records(list_files(path)[0], None))
    else:
        records = (record for *_, record in load_rows(path, config, split, streaming=True))
    for record in records:
        if isinstance(record, Problem):
            raise SamplewiseError(path, expected=record.expected, got=record.got, remedy=record.remedy)
        return record
    raise SamplewiseError(path, expected="at least one record", got="none", remedy="Check the path.")

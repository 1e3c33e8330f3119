"""Rows of Arrow tables as what was put into them.

A column of structs has one set of fields for all rows, so that each tool of a table gets the others' parameters as
null. A null that was put in cannot be told from that padding: both are dropped. JSON columns are kept as they are.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from typing import Any


def unpadded(value: Any, kind: Any = None, *, text: bool = False) -> Any:
    """A value of a table without the nulls in its structs; those in lists, maps and JSON stay.

    kind: its Arrow type, or that of the `datasets` features; None where it is not known. text: whether values of
        JSON columns are still JSON text, as in Parquet.

    >>> unpadded({"city": None, "a": {"type": "number", "enum": [1, None]}})
    {'a': {'type': 'number', 'enum': [1, None]}}
    """
    name = "" if kind is None else str(kind)
    if "arrow.json" in name[:40] and name.startswith("extension"):
        return _decoded(value) if text and isinstance(value, str) else value
    if isinstance(value, Mapping):
        members = {key: _member(kind, key) for key in value}
        return {key: unpadded(each, members[key], text=text) for key, each in value.items() if each is not None}
    if isinstance(value, list) and name.startswith("map<"):
        own = getattr(kind, "item_type", None)
        return {key: unpadded(each, own, text=text) for key, each in value}
    if isinstance(value, list):
        own = getattr(kind, "value_type", None)
        return [unpadded(each, own, text=text) for each in value]
    return value


def _member(kind: Any, name: str) -> Any:
    if kind is None or not str(kind).startswith("struct<"):
        return None
    at = kind.get_field_index(name)
    return kind.field(at).type if at >= 0 else None


def _decoded(text: str) -> Any:
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        return text  # what it should have been is said where it is read


def unpadded_rows(rows: Any) -> Iterator[Any]:
    """The rows of a `datasets` dataset or stream, each without padding; those of anything else as they are."""
    if not is_dataset(rows):
        yield from rows
        return
    kinds = kinds_of(rows)
    for row in rows:
        yield unpadded_row(row, kinds)


def kinds_of(dataset: Any) -> dict[str, Any]:
    """The Arrow type of each column of a dataset; none where a stream does not know its columns."""
    features = getattr(dataset, "features", None)
    return {} if features is None else {field.name: field.type for field in features.arrow_schema}


def unpadded_row(row: Any, kinds: Mapping[str, Any], *, text: bool = False) -> Any:
    """A row, its columns kept even where they are null. kinds: of its columns."""
    if not isinstance(row, Mapping):
        return row
    return {name: unpadded(value, kinds.get(name), text=text) for name, value in row.items()}


def is_dataset(rows: Any) -> bool:
    """Whether these are a dataset or a stream of `datasets`, which need not be imported for it."""
    return any(cls.__module__.split(".")[0] == "datasets" for cls in type(rows).__mro__)

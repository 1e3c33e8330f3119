"""Fields of a record beside its text: by name or by path, and as text for a table or a comparison."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from typing import Any

Fields = Mapping[str, object]


def field_of(record: Fields | None, path: str) -> Any:
    """The value of a field, `None` where there is none. path: its name, or names with dots between, inwards.

    >>> field_of({"meta": {"site": "a.org"}, "meta.lang": "en"}, "meta.site")
    'a.org'
    >>> field_of({"meta": {"site": "a.org"}, "meta.lang": "en"}, "meta.lang")
    'en'
    """
    if record is None:
        return None
    if path in record:
        return record[path]
    name, dot, rest = path.partition(".")
    inner = record.get(name) if dot else None
    return field_of(inner, rest) if isinstance(inner, Mapping) else None


def names_of(record: Fields, before: str = "") -> Iterator[str]:
    """The fields of a record as paths, in its order.

    >>> list(names_of({"text": "a", "meta": {"site": "a.org", "tags": []}}))
    ['text', 'meta.site', 'meta.tags']
    """
    for name, value in record.items():
        inner = value if isinstance(value, Mapping) and value else None
        yield from [f"{before}{name}"] if inner is None else names_of(inner, f"{before}{name}.")


def as_text(value: object) -> str | None:
    """A value as one text: text as it is, all else as JSON, times in ISO 8601; null stays null.

    >>> as_text("web"), as_text(3), as_text(True), as_text(["a", 1]), as_text(None)
    ('web', '3', 'true', '["a", 1]', None)
    """
    if value is None or isinstance(value, str):
        return value
    found = plain(value)
    return found if isinstance(found, str) else json.dumps(found, ensure_ascii=False)


def plain(value: Any) -> Any:
    """The value as JSON has it: times in ISO 8601, bytes as hexadecimal digits, decimals and others as their text."""
    if isinstance(value, Mapping):
        return {str(name): plain(each) for name, each in value.items()}
    if isinstance(value, list | tuple):
        return [plain(each) for each in value]
    if value is None or isinstance(value, str | bool | int | float):
        return value
    if isinstance(value, bytes | bytearray):
        return value.hex()
    return value.isoformat() if hasattr(value, "isoformat") else str(value)

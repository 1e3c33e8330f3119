"""Fields of a run's records that its windows have as columns: the data's own weight, and groups by any field."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from samplewise.config import DataConfig
from samplewise.core.columns import WEIGHT
from samplewise.core.errors import SamplewiseError
from samplewise.data import Document, Window
from samplewise.data.fields import as_text

FOLDER = "folder"
"""The value of data.groups that means folders; any other names a field."""


def kept_fields(data: DataConfig) -> tuple[str, ...]:
    """The fields that documents must bring along."""
    return (WEIGHT,) if data.groups in (None, FOLDER) else (WEIGHT, str(data.groups))


def has_weights(documents: Sequence[Document]) -> bool:
    """Whether the documents have a sample_weight. Raises SamplewiseError where some have none, or one that is none."""
    found = [(each.record or {}).get(WEIGHT) for each in documents]
    if all(value is None for value in found):
        return False
    for document, value in zip(documents, found, strict=True):
        _number(value, document.source, document.row)
    return True


def weight_of(window: Window) -> float:
    """The sample_weight of a window's record."""
    return _number((window.record or {}).get(WEIGHT), window.source, window.row)


def _number(value: object, source: str, row: int) -> float:
    number = not isinstance(value, bool) and isinstance(value, (int, float)) and math.isfinite(value)
    if not number:
        raise SamplewiseError(
            f"{source}, record {row}", expected="a finite number in sample_weight, as other records have",
            got="none" if value is None else repr(value)[:80],
            remedy="Give every record a sample_weight, or remove the field.",
        )  # fmt: skip
    return float(value)  # pyright: ignore[reportArgumentType]


@dataclass(frozen=True)
class FieldGroups:
    """The number of a window's group: that of its record's value of `field`, values in the order of their names."""

    field: str
    numbers: dict[str, int]

    def __call__(self, window: Window) -> int:
        """The number of the group that a window belongs to."""
        return self.numbers[_value(window, self.field)]

    def line(self, windows: Iterable[Window] | None = None) -> str:
        """The groups in words, with their windows."""
        counts = Counter(map(self, windows or ()))
        named = [f"{number} {name} ({counts[number]:,} windows)" for name, number in self.numbers.items()]
        return f"groups     {', '.join(named[:20])}{', …' if len(named) > 20 else ''}"


def groups_by(field: str, documents: Iterable[Document]) -> FieldGroups:
    """The groups of documents by a field. Raises SamplewiseError where a record has no single value of it."""
    return FieldGroups(field, {name: i for i, name in enumerate(sorted({_value(each, field) for each in documents}))})


def _value(each: Document | Window, field: str) -> str:
    value = (each.record or {}).get(field)
    if value is None or isinstance(value, list | tuple | dict):
        raise SamplewiseError(
            f"{each.source}, record {each.row}", expected=f"one value in {field}, which data.groups names",
            got="none" if value is None else f"a {type(value).__name__}",
            remedy="Give every record one, or set data.groups to folder.",
        )  # fmt: skip
    return str(as_text(value))

"""Plain values from files, as JSON and YAML have them, into annotated dataclasses: each checked, with its place."""

from __future__ import annotations

import math
import reprlib
from collections.abc import Mapping
from dataclasses import MISSING, fields, is_dataclass
from enum import Enum
from types import NoneType
from typing import Any, Literal, TypeVar, Union, get_args, get_origin, get_type_hints

from samplewise.core.errors import SamplewiseError, nearest

Built = TypeVar("Built")

MAX_INT64 = 2**63 - 1
"""Whole numbers beyond it fit into no tensor, no Arrow column and no seed."""

_SHORT = reprlib.Repr()
_SHORT.maxstring = _SHORT.maxother = 200
_SHORT.maxlong = 40
_SHORT.maxlist = _SHORT.maxtuple = _SHORT.maxdict = 8


def build(cls: type[Built], values: Any, place: str = "") -> Built:
    """A dataclass from a mapping. place: the keys so far with a dot at the end, for messages.

    Errors: SamplewiseError on unknown keys (with the nearest known one), keys that are missing, values of another type.
    A field whose metadata says {"blank": True} may be empty text; the others may not.
    """
    if not isinstance(values, Mapping):
        raise SamplewiseError(
            place.rstrip(".") or "file", expected="a mapping", got=shown(values), remedy="Indent the keys below it."
        )
    hints = get_type_hints(cls)
    for key in values:
        if key not in hints:
            raise SamplewiseError(
                f"{place}{key}", expected="a known key", got="an unknown one", remedy=nearest(str(key), hints)
            )
    blank = set()
    for each in fields(cls):  # pyright: ignore[reportArgumentType]
        if each.name not in values and required(each):
            raise SamplewiseError(f"{place}{each.name}", expected="a value", got="none", remedy="It has no default.")
        if each.metadata.get("blank"):
            blank.add(each.name)
    return cls(**{key: _value(hints[key], v, f"{place}{key}", key in blank) for key, v in values.items()})


def required(field: Any) -> bool:
    """Whether a field of a dataclass has no default."""
    return field.default is MISSING and field.default_factory is MISSING


def fits(value: Any, hint: Any) -> bool:
    """Whether a value is of an annotated type; True for types that files know nothing of.

    >>> fits(1, float), fits("1", int), fits(None, int | None), fits(True, int), fits(10**30, int)
    (True, False, True, False, False)
    """
    origin = get_origin(hint)
    if origin is Literal:
        return any(type(value) is type(each) and value == each for each in get_args(hint))
    if len(options := _options(hint)) > 1:
        return any(fits(value, each) for each in options)
    kind = origin or hint
    if isinstance(kind, type) and issubclass(kind, Enum):
        return any(type(value) is type(each.value) and value == each.value for each in kind)
    if isinstance(value, bool):
        return kind not in (int, float, str, dict, list, NoneType)
    if kind is float:
        return isinstance(value, (int, float)) and _finite(value)
    if kind is int:
        return isinstance(value, int) and abs(value) <= MAX_INT64
    return isinstance(value, kind) if kind in (bool, str, dict, list, NoneType) else True


def described(hint: Any) -> str:
    """An annotated type in words, as messages name it: "a whole number below 2^63"."""
    if get_origin(hint) is Literal:
        return " or ".join(repr(each) for each in get_args(hint))
    if len(options := _options(hint)) > 1:
        return " or ".join(described(each) for each in options)
    names = {
        str: "text", int: "a whole number below 2^63", float: "a number that is finite", bool: "true or false",
        NoneType: "null",
    }  # fmt: skip
    return names.get(hint) or ("a mapping" if get_origin(hint) is dict else str(getattr(hint, "__name__", hint)))


def shown(value: object) -> str:
    """A value in a message: as Python writes it, cut where it is long or deep.

    >>> shown("a"), shown([1, [2]]), len(shown("a" * 10**6)) < 300
    ("'a'", '[1, [2]]', True)
    """
    try:
        return _SHORT.repr(value)
    except ValueError:  # whole numbers of thousands of digits have no text
        return f"a {type(value).__name__} of too many digits"


def check_text(value: str, place: str, *, blank: bool = False) -> str:
    """The text. Errors: SamplewiseError where it is blank, or holds what no file's name can.

    Python has U+DC80 to U+DCFF for the bytes of a name that are no UTF-8.
    """
    fault = ""
    if not blank and not value.strip():
        fault = "nothing but white space" if value else "empty text"
    elif "\0" in value or any("\ud800" <= each <= "\udfff" and not "\udc80" <= each <= "\udcff" for each in value):
        fault = f"{shown(value)}, with a character that no file can hold"
    if fault:
        raise SamplewiseError(
            place, expected="text that is not empty", got=fault, remedy="Give a value, or leave the key out."
        )
    return value


def _finite(value: float) -> bool:
    try:
        return math.isfinite(value)
    except OverflowError:  # a whole number beyond any float
        return False


def _value(hint: Any, value: Any, place: str, blank: bool = False) -> Any:
    if hint is float and fits(value, hint):
        return float(value)
    options = _options(hint)
    shapes = [each for each in options if is_dataclass(each)]
    only = not {*options} - {*shapes, NoneType} and not (value is None and NoneType in options)
    if shapes and (only or isinstance(value, Mapping)):
        return build(_shape(shapes, value, place), value, f"{place}.")
    for each in options:
        inner = get_args(each)
        if get_origin(each) is dict and isinstance(value, dict):
            return {_key(key, place): _value(inner[1], own, f"{place}.{key}") for key, own in value.items()}
        if get_origin(each) is list and isinstance(value, list):
            return [_value(inner[0], own, f"{place}.{i}") for i, own in enumerate(value)]
    plain = [each for each in options if each not in shapes] if shapes else [hint]
    if not any(fits(value, each) for each in plain):
        raise SamplewiseError(place, expected=described(hint), got=shown(value), remedy="Check the value.")
    return check_text(value, place, blank=blank) if isinstance(value, str) and hint is not Any else value


def _options(hint: Any) -> tuple[Any, ...]:
    return get_args(hint) if get_origin(hint) is Union or type(hint).__name__ == "UnionType" else (hint,)


def _key(key: Any, place: str) -> str:
    if not isinstance(key, str):
        raise SamplewiseError(place, expected="keys that are text", got=shown(key), remedy="Put it in quotes.")
    return check_text(key, f"a key of {place}")


def _shape(shapes: list[Any], value: Any, place: str) -> Any:
    """The dataclass that a mapping's `kind` names, the first where it has none."""
    if len(shapes) == 1 or not isinstance(value, Mapping):
        return shapes[0]
    kinds = {get_args(get_type_hints(each)["kind"])[0]: each for each in shapes}
    kind = value.get("kind", next(iter(kinds)))
    if not isinstance(kind, str) or kind not in kinds:
        expected = " or ".join(map(repr, kinds))
        raise SamplewiseError(f"{place}.kind", expected=expected, got=shown(kind), remedy="Set it to one of these.")
    return kinds[kind]

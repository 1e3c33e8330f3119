"""Names that are imported at their first use: what needs neither starts without the seconds of torch and numpy."""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping
from functools import cache
from importlib import import_module
from typing import TYPE_CHECKING, Any


@cache
def _module(name: str) -> Any:
    return import_module(name)


class _Module:
    """A module, imported when one of its names is asked for."""

    def __init__(self, name: str) -> None:
        self._name = name

    def __getattr__(self, name: str) -> Any:
        return getattr(_module(self._name), name)

    def __dir__(self) -> list[str]:
        return dir(_module(self._name))


if TYPE_CHECKING:
    import numpy
    import torch
else:
    numpy, torch = _Module("numpy"), _Module("torch")


def names_from(package: str, places: Mapping[str, str]) -> tuple[Callable[[str], Any], Callable[[], list[str]]]:
    """The functions `__getattr__` and `__dir__` of a package whose names are imported from modules when they are used.

    places: name -> module (PEP 562). A name that was found is kept in the package.

    >>> find, _ = names_from("samplewise.core", {"shown": "samplewise.core.typed"})
    >>> find("shown")([1])
    '[1]'
    """

    def find(name: str) -> Any:
        if name not in places:
            raise AttributeError(f"module {package!r} has no attribute {name!r}")
        found = getattr(import_module(places[name]), name)
        setattr(sys.modules[package], name, found)
        return found

    def listed() -> list[str]:
        return sorted({*vars(sys.modules[package]), *places})

    return find, listed

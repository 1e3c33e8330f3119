"""JSON files that this library has written, read again: a damaged file is named as such."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from samplewise.core.errors import SamplewiseError
from samplewise.core.typed import shown


def read_json(path: Path, what: str, remedy: str) -> dict[str, Any]:
    """The object in a file. what: the file in words. Errors: SamplewiseError on a file that holds none."""
    with as_written(path, what, remedy):
        try:
            found = json.loads(path.read_text(encoding="utf-8"))
        except OSError as error:
            raise SamplewiseError(str(path), expected=what, got=error.strerror, remedy=remedy) from None
        if not isinstance(found, dict):
            raise TypeError(f"{shown(found)} is not a JSON object")
        return found


@contextmanager
def as_written(path: Path, what: str, remedy: str) -> Iterator[None]:
    """For taking apart what a file holds. Errors: SamplewiseError where that is cut, or not what was written."""
    try:
        yield
    except SamplewiseError:
        raise
    except (ArithmeticError, AttributeError, LookupError, RecursionError, TypeError, ValueError) as error:
        said = " ".join(str(error).split())[:200]
        got = f"a damaged one: {type(error).__name__}: {said}"
        raise SamplewiseError(str(path), expected=what, got=got, remedy=remedy) from error

"""Outputs that would replace an input, or become part of it at the next reading, are refused."""

from __future__ import annotations

import glob
from collections.abc import Iterable
from pathlib import Path

from samplewise.core.errors import SamplewiseError
from samplewise.corpus.place import Place, is_url


def inputs(place: Place | None, data: str = "") -> set[Path]:
    """The folders and files here that are read: of scores, and of a corpus by its path or glob."""
    found = set() if place is None or place.remote else {place.local.resolve()}
    path = Path(data.removeprefix("file://")).expanduser()
    if not data or is_url(data):
        return found
    if path.exists():
        return found | {path.resolve()}
    return found | {Path(name).resolve() for name in glob.glob(str(path), recursive=True)}


def refuse_inputs(argument: str, path: Path, guarded: Iterable[Path]) -> None:
    """Raises SamplewiseError where `path` is one of them, or lies in one."""
    guarded = set(guarded)
    whole = path.expanduser().resolve()
    for place in (whole, *whole.parents):
        if place in guarded:
            raise SamplewiseError(
                argument, expected="a file outside the scores and the corpus",
                got=f"{path}, in {place}" if place != whole else f"{path}, one of them", remedy="Name another file.",
            )  # fmt: skip

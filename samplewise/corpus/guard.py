"""Outputs that would replace an input, or become part of it at the next reading, are refused."""

from __future__ import annotations

import glob
from collections.abc import Iterable
from itertools import takewhile
from pathlib import Path

from samplewise.core.errors import SamplewiseError
from samplewise.core.paths import expanded, without_links
from samplewise.corpus.place import Place
from samplewise.data.urls import is_url


def inputs(place: Place | None, data: str = "") -> set[Path | str]:
    """What is read: folders and files here, and URLs, of scores, and of a corpus by its path or glob."""
    found: set[Path | str] = set()
    if place is not None:
        found.add(place.url if place.remote else without_links(place.local))
    if not data:
        return found
    if is_url(data):
        return found | {_before_wildcards(data)}
    path = expanded(data.removeprefix("file://"))
    if path.exists():
        return found | {without_links(path)}
    return found | {without_links(Path(name)) for name in glob.glob(str(path), recursive=True)}


def refuse_inputs(argument: str, path: str | Path, guarded: Iterable[Path | str]) -> None:
    """Raises SamplewiseError where `path` is one of them, or lies in one."""
    guarded = set(guarded)
    whole = str(path) if is_url(path) else without_links(expanded(path))
    for place in _upwards(whole):
        if place in guarded:
            raise SamplewiseError(
                argument, expected="a place outside the scores and the corpus",
                got=f"{path}, in {place}" if place != whole else f"{path}, one of them", remedy="Name another place.",
            )  # fmt: skip


def _upwards(whole: str | Path) -> list[str | Path]:
    if isinstance(whole, Path):
        return [whole, *whole.parents]
    scheme, mark, rest = whole.rpartition("://")
    parts = rest.rstrip("/").split("/")
    return [f"{scheme}{mark}{'/'.join(parts[:end])}" for end in range(len(parts), 0, -1)]


def _before_wildcards(url: str) -> str:
    scheme, mark, rest = url.rpartition("://")
    plain = takewhile(lambda part: not glob.has_magic(part), rest.rstrip("/").split("/"))
    return f"{scheme}{mark}{'/'.join(plain)}"

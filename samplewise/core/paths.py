"""Paths as people type them."""

from __future__ import annotations

import os
from pathlib import Path

from samplewise.core.errors import SamplewiseError


def expanded(path: str | Path) -> Path:
    """The path, its ~ replaced. Errors: SamplewiseError where no home folder is known, as in some containers.

    >>> expanded("a/b").as_posix()
    'a/b'
    """
    try:
        return Path(path).expanduser()
    except RuntimeError:
        raise SamplewiseError(
            str(path), expected="a path whose ~ stands for a folder", got="no such home folder",
            remedy="Set HOME, or write the path in full.",
        ) from None  # fmt: skip


def without_links(path: Path) -> Path:
    """The path from the root, its links followed; one that leads to itself stays, where `Path.resolve` raises."""
    return Path(os.path.realpath(path))

"""Whether a path means files here or a `datasets` name, and the rows of such a name."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from samplewise.core.errors import SamplewiseError, missing_extra
from samplewise.data.arrow import unpadded_rows
from samplewise.data.formats import format_of
from samplewise.data.records import Record


def is_local(path: str | Path) -> bool:
    """Whether a path means files here; a name such as "org/name" that exists nowhere here means the hub.

    >>> is_local("allenai/c4"), is_local("no/such/folder/a.txt"), is_local("*.txt")
    (False, True, True)
    """
    text = str(path)
    hub = re.fullmatch(r"\w[\w.-]*(/\w[\w.-]*)?", text) and format_of(Path(text)) is None
    return isinstance(path, Path) or os.path.exists(text) or not hub


def load_rows(name: str, config: str | None, split: str, streaming: bool) -> Iterator[tuple[str, int, None, Record]]:
    """The rows of a `datasets` name as (source, row, None, record); source is name/config/split."""
    try:
        import datasets
    except ModuleNotFoundError:
        raise missing_extra("datasets", "hf", name) from None
    try:
        rows = datasets.load_dataset(name, config, split=split, streaming=streaming)
    except Exception as error:  # the hub's client raises errors of many libraries
        raise _unreachable(name, error) from error
    return _rows(rows, name, "/".join(part for part in (name, config, split) if part))


def _rows(rows: Any, name: str, source: str) -> Iterator[tuple[str, int, None, Record]]:
    try:
        for row, record in enumerate(unpadded_rows(rows)):
            yield source, row, None, record
    except Exception as error:  # a stream meets the network here
        raise _unreachable(name, error) from error


def _unreachable(name: str, error: Exception) -> SamplewiseError:
    got = f"{type(error).__name__}: {(str(error).strip().splitlines() or [''])[0]}"
    remedy = "Check the name, config and split and the network, or download the files and give their path."
    return SamplewiseError(name, expected="a file or folder here, or a dataset on the hub", got=got, remedy=remedy)

"""Whether the files of scores are those that were written: by SHA-256, once a file, remembered until it changes."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from typing import Any

from samplewise.core.errors import SamplewiseError
from samplewise.core.progress import Progress
from samplewise.corpus.manifest import Shard
from samplewise.corpus.place import Place

REMEMBERED = ".verified.json"
"""In the folder of scores: by file [its SHA-256, its state when that was read]."""
CHUNK = 2**20


def verify_files(place: Place, files: Mapping[str, Shard], *, known: bool = True) -> None:
    """Read every file whole, several at a time, with a bar on a terminal, and compare its checksum.

    files: by name in the place. known: pass over those that were verified before, whose size, time of change and
    checksum in the manifest are what they were then; a copy of a folder is verified again.
    Errors: SamplewiseError naming the first file that is another, and how many there are.
    """
    states = {name: [shard.sha256, place.state(name)] for name, shard in files.items()}
    before = _remembered(place) if known else {}
    left = [name for name in files if before.get(name) != states[name]]
    if not left:
        return
    same = _compared(place, {name: files[name] for name in left})
    _remember(place, {name: state for name, state in states.items() if same.get(name, True)})
    if changed := [name for name in left if not same[name]]:
        more = f" and {len(changed) - 1:,} more" if len(changed) > 1 else ""
        raise SamplewiseError(
            "scores", expected="files as they were written", got=f"a changed {changed[0]} in {place}{more}",
            remedy="Restore it, or score again into another folder; --no-verify reads files as they are.",
        )  # fmt: skip


def changed_files(place: Place, files: Mapping[str, Shard]) -> list[str]:
    """The names of those files that are not, byte by byte, what was written. Each is read whole."""
    return [name for name, same in _compared(place, files).items() if not same]


def _compared(place: Place, files: Mapping[str, Shard]) -> dict[str, bool]:
    total = sum(shard.bytes for shard in files.values())
    with (
        Progress("verifying", total, unit="bytes", unit_scale=True, delay=1) as bar,
        ThreadPoolExecutor(min(8, os.cpu_count() or 1)) as pool,  # hashing and reading let other threads run
    ):
        found = pool.map(lambda name: _digest(place, name, bar) == files[name].sha256, files)
        return dict(zip(files, found, strict=True))


def _digest(place: Place, name: str, bar: Any) -> str:
    found = hashlib.sha256()
    with place.open(name) as file:
        while data := file.read(CHUNK):
            found.update(data)
            bar.advance(len(data))
    return found.hexdigest()


def _remembered(place: Place) -> dict[str, Any]:
    try:
        found = json.loads(place.read(REMEMBERED))
    except (OSError, ValueError, RecursionError):
        return {}
    return found if isinstance(found, dict) else {}


def _remember(place: Place, states: Mapping[str, Any]) -> None:
    """A folder that cannot be written is verified each time."""
    with suppress(OSError, SamplewiseError):
        place.write(REMEMBERED, json.dumps(states, indent=1).encode() + b"\n")

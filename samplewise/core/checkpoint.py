"""A rule's state on disk: numbers in JSON, tensors in safetensors, and a marker with checksums written last."""

from __future__ import annotations

import hashlib
import json
import math
import os
import re
from contextlib import suppress
from pathlib import Path, PurePath
from typing import TYPE_CHECKING, Any

from samplewise.core.errors import SamplewiseError
from samplewise.core.rule import State

if TYPE_CHECKING:
    import torch
else:
    from samplewise.core.lazy import torch

FOLDER = "samplewise"
STATE, TENSORS, MARKER = "state.json", "state.safetensors", "complete.json"


def save_state(checkpoint: Path, state: State, facts: dict[str, Any]) -> None:
    """Write the rule's state into `checkpoint`/samplewise, each file under a temporary name first.

    facts: what must be known to read it back (the rule's expression, the step), JSON values.
    """
    from safetensors.torch import save

    folder = checkpoint / FOLDER
    folder.mkdir(parents=True, exist_ok=True)
    (folder / MARKER).unlink(missing_ok=True)
    for left in (path for path in (*checkpoint.iterdir(), *folder.iterdir()) if is_temporary(path)):
        left.unlink()  # a writer was killed here
    tensors = {
        key: value.detach().cpu().clone().contiguous()
        for key, value in state.items()
        if isinstance(value, torch.Tensor)
    }
    numbers = {key: _encoded(value) for key, value in state.items() if not isinstance(value, torch.Tensor)}
    if tensors:
        write_bytes(folder / TENSORS, save(tensors))
    write_bytes(
        folder / STATE, json.dumps({**facts, "numbers": numbers, "tensors": sorted(tensors)}, indent=1).encode()
    )


def load_state(checkpoint: Path, *, check: bool = True) -> tuple[State, dict[str, Any]] | None:
    """The state and facts that `save_state` wrote; None where the checkpoint has none.

    check: read every file of the checkpoint and compare its checksum; False where another rank does.
    Errors: SamplewiseError if the files are not those the marker was written for.
    """
    folder = checkpoint / FOLDER
    if not (folder / STATE).exists():
        return None
    if check:
        check_complete(checkpoint)
    facts = json.loads((folder / STATE).read_text())
    state: State = {key: _decoded(value) for key, value in facts.pop("numbers").items()}
    if facts.pop("tensors"):
        from safetensors.torch import load

        state |= load((folder / TENSORS).read_bytes())
    return state, facts


def mark_complete(checkpoint: Path) -> None:
    """Write the marker: name, size and SHA-256 of every file of the checkpoint. To be called when all else is there."""
    files = sorted(p for p in checkpoint.rglob("*") if p.is_file() and p != checkpoint / FOLDER / MARKER)
    entries = {str(p.relative_to(checkpoint)): {"size": p.stat().st_size, "sha256": _digest(p)} for p in files}
    write_bytes(checkpoint / FOLDER / MARKER, json.dumps(entries, indent=1).encode())


def check_complete(checkpoint: Path) -> None:
    """Errors: SamplewiseError where the marker is missing, or names a file that is missing or has changed."""
    marker = checkpoint / FOLDER / MARKER
    if not marker.exists():
        raise SamplewiseError(
            "resume_from_checkpoint", expected="a complete checkpoint", got=f"{checkpoint} without {FOLDER}/{MARKER}",
            remedy="It was being written when the run ended: resume from the one before it.",
        )  # fmt: skip
    for name, entry in _entries(marker).items():
        path = checkpoint / name
        if not path.exists() or path.stat().st_size != entry["size"] or _digest(path) != entry["sha256"]:
            raise SamplewiseError(
                "resume_from_checkpoint", expected="files as they were saved", got=f"a missing or changed {path}",
                remedy="Resume from another checkpoint.",
            )  # fmt: skip


def _entries(marker: Path) -> dict[str, dict[str, Any]]:
    try:
        entries = json.loads(marker.read_bytes())
    except ValueError:
        entries = None
    if not isinstance(entries, dict) or not all(
        isinstance(e, dict) and {"size", "sha256"} <= set(e) and _is_inside(name) for name, e in entries.items()
    ):
        raise SamplewiseError(
            "resume_from_checkpoint", expected="a marker as it was written", got=f"a damaged {marker}",
            remedy="Resume from another checkpoint.",
        )  # fmt: skip
    return entries


def _is_inside(name: str) -> bool:
    """Whether a name leads to no place outside its folder: to a device, say, which could be read for ever."""
    path = PurePath(name)
    return not path.is_absolute() and ".." not in path.parts and "\0" not in name


def write_bytes(path: Path, data: bytes) -> None:
    """Write under a temporary name, then rename: a reader sees the whole file or none. An error leaves nothing."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        with open(temporary, "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
    except BaseException:
        with suppress(OSError):
            temporary.unlink()
        raise


def is_temporary(path: Path) -> bool:
    """Whether `write_bytes` made this file and was killed before it could rename it."""
    return re.fullmatch(r"\..+\.\d+", path.name) is not None and path.is_file()


def _digest(path: Path) -> str:
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _encoded(value: float | int) -> float | int | str:
    """JSON has no NaN and no infinity."""
    return value if math.isfinite(value) else repr(value)


def _decoded(value: float | int | str) -> float | int:
    return float(value) if isinstance(value, str) else value

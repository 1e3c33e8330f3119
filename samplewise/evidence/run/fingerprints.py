"""Fingerprints of what a run began with, so that it is not resumed with other contents under the same names."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from torch import nn

from samplewise.config import DataConfig, InstructionsConfig
from samplewise.core.checkpoint import write_bytes
from samplewise.core.errors import SamplewiseError
from samplewise.core.json_file import as_written, read_json
from samplewise.corpus.fingerprints import fingerprint_model, fingerprint_tokenizer
from samplewise.data.dataset import StreamedWindows, WindowDataset
from samplewise.data.records import Problem
from samplewise.data.remote import list_files
from samplewise.data.sources import is_local
from samplewise.evidence.run.folder import FINGERPRINTS
from samplewise.evidence.run.prepared import Prepared

EDGE = 2**16
"""Bytes of each end of a streamed file that are looked at: reading all of it would take as long as a pass."""
MODEL, TOKENIZER, TRAINING, HELD_OUT = "the base model", "the tokenizer", "the training data", "the held-out data"
MEASURED = {MODEL, TOKENIZER, HELD_OUT}
"""What the evaluation before training depends on."""


def of_model(model: nn.Module, tokenizer: Any) -> dict[str, str]:
    """Fingerprints of the tokenizer and of the model before adapters, as they were loaded."""
    return {MODEL: fingerprint_model(model), TOKENIZER: fingerprint_tokenizer(tokenizer)}


def of_data(data: Prepared, config: DataConfig | InstructionsConfig, tokenizer: Any) -> dict[str, str]:
    """Fingerprints of the training and held-out tokens, with ids and columns; for a stream, those of its files."""
    train = data.train
    if isinstance(train, StreamedWindows):
        training = _of_files(config.path)
    elif isinstance(train, WindowDataset):
        training = _digest(_row(train[index]) for index in range(len(train)))
    else:
        training = _digest(_row(row) for row in train)
    held = _digest(_row({"id": each.id, "ids": each.input_ids, "labels": each.labels}) for each in data.held_out)
    template = _digest([str(getattr(tokenizer, "chat_template", None)).encode()])
    return {TRAINING: training, HELD_OUT: held, "the chat template": template}


def check(folder: Path, now: Mapping[str, str], accept: bool, say: Callable[[str], object]) -> set[str]:
    """What is not as it was when the run in the folder began; the fingerprints are then, or at its start, written.

    Errors: SamplewiseError naming it, unless `accept`.
    """
    path = folder / FINGERPRINTS
    began, met = _read(path) if path.exists() else (dict(now), [])
    changed = [name for name in now if began.get(name, now[name]) != now[name]]
    if changed and not accept:
        raise SamplewiseError(
            "--resume", expected="what the run began with", got=f"a change of {', '.join(changed)}",
            remedy="Restore what was there, name another output, or resume anyway with --accept-changes.",
        )  # fmt: skip
    if changed:
        say(f"changed    {', '.join(changed)} since the run began; resuming, because of --accept-changes")
    said = {"began": {**began, **now}, "accepted": sorted({*met, *changed})}
    write_bytes(path, json.dumps(said, indent=1).encode())
    return set(changed)


def accepted(folder: Path) -> list[str]:
    """Everything that changed during the run."""
    return _read(folder / FINGERPRINTS)[1]


def _read(path: Path) -> tuple[dict[str, str], list[str]]:
    """What the run began with, and what was accepted."""
    what, remedy = "the fingerprints of a run", "Remove it: the run then resumes with what is there now, unchecked."
    with as_written(path, what, remedy):
        said = read_json(path, what, remedy)
        return dict(said["began"]), [str(each) for each in said["accepted"]]


def _digest(parts: Iterable[bytes]) -> str:
    found = hashlib.blake2b(digest_size=16)
    for part in parts:
        found.update(len(part).to_bytes(8) + part)
    return found.hexdigest()


def _row(row: Mapping[str, Any]) -> bytes:
    values = ((name, np.asarray(row[name])) for name in sorted(row))
    return b"".join(f"{name} {value.dtype.str} {value.shape}\0".encode() + value.tobytes() for name, value in values)


def _of_files(path: str) -> str:
    """Names, sizes and both ends of local files; the name alone of a data set from the hub."""
    if not is_local(path):
        return _digest([path.encode()])
    return _digest(_of_file(name, file) for name, file in list_files(path)[0])


def _of_file(name: str, file: Path | Problem) -> bytes:
    if isinstance(file, Problem):
        return f"{name} {file.reason}".encode()
    size = file.stat().st_size if isinstance(file, Path) else file.size
    with file.open("rb") as opened:
        start = opened.read(EDGE)
        opened.seek(max(0, size - EDGE))
        return f"{name} {size}\0".encode() + start + opened.read(EDGE)

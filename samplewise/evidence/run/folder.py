"""The output folder: one run in it, one process at a time."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from samplewise.config import RunConfig, load_config
from samplewise.config.settings_file import to_yaml
from samplewise.core.checkpoint import is_temporary, write_bytes
from samplewise.core.errors import SamplewiseError
from samplewise.core.exhausted import told, wanting
from samplewise.core.file_lock import TRIES, locked_file

FINGERPRINTS = ".fingerprints.json"
LOCK, CONFIG, EVALUATION_BEFORE, RESULTS = ".lock", "run.yaml", ".before.json", "results.json"
FIGURE, GROUPS, MODEL = "run.png", "groups.png", "model"
OWN = (LOCK, CONFIG, EVALUATION_BEFORE, RESULTS, FIGURE, MODEL, GROUPS)


@contextmanager
def locked(folder: Path) -> Iterator[None]:
    """Lock the folder for this process. It is created if it is missing, and removed again if it stays empty.

    The operating system holds the lock, so that a crash leaves none behind. Errors: SamplewiseError if it is taken.
    """
    made, handle = _make_and_lock(folder)
    if handle is None:
        raise SamplewiseError(
            "output", expected="a folder that no other run uses now", got=f"{folder}, which is in use",
            remedy="Wait for that run, or name another folder.",
        )  # fmt: skip
    try:
        for left in filter(is_temporary, folder.iterdir()):
            left.unlink()  # a run was killed while it wrote
        try:
            yield
        finally:
            (folder / LOCK).unlink(missing_ok=True)
            for each in made:
                if not any(each.iterdir()):
                    each.rmdir()
    finally:
        os.close(handle)


def _make_and_lock(folder: Path) -> tuple[list[Path], int | None]:
    """The folders that were created, the innermost first, and the lock; None where another run has it."""
    error = OSError()
    for _ in range(TRIES):
        made = _make(folder)
        try:
            return made, locked_file(folder / LOCK)
        except FileNotFoundError as gone:  # a run that came to nothing has just removed the folder
            error = gone
        except OSError as refused:
            raise _not_writable(folder, refused) from None
    raise _not_writable(folder, error)


def _make(folder: Path) -> list[Path]:
    missing = [each for each in (folder, *folder.parents) if not each.exists()]
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise _not_writable(folder, error) from None
    return missing


def _not_writable(folder: Path, error: OSError) -> SamplewiseError:
    got = f"{folder}: {error.strerror or error}"
    return SamplewiseError("output", expected="a folder that can be written", got=got, remedy="Name another folder.")


def check_folder(folder: Path, config: RunConfig, resume: bool) -> bool:
    """Whether training resumes from a checkpoint; False at the start of a run.

    Errors: SamplewiseError on a finished run, a run of another configuration, foreign files, and a run that is there
    already where `resume` is not set.
    """
    if not (folder / CONFIG).exists():
        foreign = sorted(each.name for each in folder.iterdir() if each.name not in (LOCK, FINGERPRINTS))
        if foreign:
            raise SamplewiseError(
                "output", expected="an empty folder, or one of this run",
                got=f"{folder} with {', '.join(foreign[:5])}" + (" …" if len(foreign) > 5 else ""),
                remedy="Name a new or empty folder.",
            )  # fmt: skip
        (folder / FINGERPRINTS).unlink(missing_ok=True)  # of a run that was killed before it had begun
        return False
    _check_same(folder, config)
    if (folder / RESULTS).exists():
        raise SamplewiseError(
            "output", expected="a run that is not finished", got=f"{folder}, which is finished",
            remedy=f"See {folder / RESULTS}; name another folder to train again.",
        )  # fmt: skip
    if not resume:
        raise SamplewiseError(
            "output", expected="a folder without a run", got=f"{folder} with an unfinished one",
            remedy="Resume it with --resume, or name another folder.",
        )  # fmt: skip
    return bool(list(folder.glob("checkpoint-*/samplewise/complete.json")))


def saved_config(folder: Path) -> RunConfig | None:
    """The configuration of the run in this folder, if there is one."""
    return load_config(folder / CONFIG) if (folder / CONFIG).exists() else None


def save_config(folder: Path, config: RunConfig) -> None:
    """Write the resolved configuration: from now on the folder is this run's."""
    write_bytes(folder / CONFIG, to_yaml(config).encode())


def _check_same(folder: Path, config: RunConfig) -> None:
    here, there = _flat(config), _flat(load_config(folder / CONFIG))
    for key in sorted(here.keys() | there.keys()):
        if here.get(key) != there.get(key):
            raise SamplewiseError(
                "output", expected="a folder of this run",
                got=f"{folder}, of a run with {key} {there.get(key, 'not set')!r}, not {here.get(key, 'not set')!r}",
                remedy="Name another folder, or give the same configuration.",
            )  # fmt: skip


def _flat(config: RunConfig) -> dict[str, Any]:
    """Dotted keys; without `output`, since a folder may be moved."""
    from dataclasses import asdict

    values = asdict(config)
    values.pop("output")
    for group in ("data", "training"):
        values.update({f"{group}.{key}": value for key, value in values.pop(group).items()})
    return values


def save_model(folder: Path, model: Any, tokenizer: Any) -> Path:
    """Model and tokenizer into `folder`/model: under a temporary name, then renamed."""
    for left in folder.glob(f".{MODEL}.*"):
        shutil.rmtree(left)
    temporary = folder / f".{MODEL}.{os.getpid()}"
    model.save_pretrained(temporary)
    tokenizer.save_pretrained(temporary)
    shutil.rmtree(folder / MODEL, ignore_errors=True)
    return temporary.rename(folder / MODEL)


def check_space(folder: Path, needed: int) -> None:
    """Errors: SamplewiseError if fewer than `needed` bytes are free there: hours before they are missed."""
    free = shutil.disk_usage(folder).free
    if free < needed:
        told = [size_text(needed), size_text(free)]
        if told[0] == told[1]:
            told = [f"{needed:,} bytes", f"{free:,} bytes"]
        raise SamplewiseError(
            "output", expected=f"at least {told[0]} free for the model and a checkpoint",
            got=f"{told[1]} in {folder}",
            remedy="Free disk space, name another folder, or set training.save_strategy=no.",
        )  # fmt: skip


def size_text(size: int) -> str:
    """A size in bytes, in a unit that keeps three digits, so that similar sizes look different.

    >>> size_text(0), size_text(41_250), size_text(3_260_000), size_text(16_400_000_000)
    ('0 bytes', '41.2 kB', '3.26 MB', '16.4 GB')
    """
    for unit, name in ((10**9, "GB"), (10**6, "MB"), (10**3, "kB")):
        if size >= unit:
            return f"{size / unit:.4g} {name}" if size >= 1000 * unit else f"{size / unit:.3g} {name}"
    return f"{size} bytes"


@contextmanager
def exhaustion_explained(folder: Path, then: str = "resume with --resume") -> Iterator[None]:
    """Errors: SamplewiseError in place of the many that libraries raise on a full disk, or without file handles.

    then: how the work continues once there is room.
    """
    try:
        yield
    except Exception as error:
        if (want := wanting(error)) is None:
            raise
        raise told(want, "output", f"writing to {folder}", then) from error

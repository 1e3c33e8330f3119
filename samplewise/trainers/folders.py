"""The folders checkpoint-<step> of a run: which one it resumes from, and which are deleted when there are too many."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext, suppress
from pathlib import Path

from transformers.trainer import TRAINER_STATE_NAME
from transformers.trainer_utils import PREFIX_CHECKPOINT_DIR

from samplewise.core.checkpoint import FOLDER, MARKER
from samplewise.core.errors import SamplewiseError
from samplewise.core.exhausted import told, wanting

_REMOVED = ".removed"


def newest(output: Path) -> Path:
    """The whole checkpoint of the highest step. Errors: SamplewiseError if there is none."""
    _put_back(output)
    found = _checkpoints(output)
    whole = [folder for folder in found if is_whole(folder)]
    if not whole:
        raise SamplewiseError(
            "resume_from_checkpoint", expected=f"a checkpoint with {FOLDER}/{MARKER} in {output}",
            got=f"only {', '.join(folder.name for folder in found)}, not whole" if found else "none",
            remedy="Start without resume_from_checkpoint, or give the folder of a checkpoint.",
        )  # fmt: skip
    return whole[-1]


def is_whole(folder: Path) -> bool:
    """Whether the checkpoint was written to its end.

    Ours have a marker. One of a plain trainer has nothing of ours, and the host's own state, which it writes last.
    """
    if (folder / FOLDER).exists():
        return (folder / FOLDER / MARKER).exists()
    return (folder / TRAINER_STATE_NAME).exists()


@contextmanager
def writing(folder: Path, on_this_rank: bool) -> Iterator[None]:
    """The time in which a checkpoint is written: `replaced` by the rank that writes it.

    Errors: SamplewiseError where the disk is full, or something else is used up; it says what to resume from.
    """
    try:
        with replaced(folder) if on_this_rank else nullcontext():
            yield
    except Exception as error:
        if (want := wanting(error)) is None:
            raise
        raise told(want, "output_dir", f"writing {folder}", _then(folder.parent)) from error


def _then(output: Path) -> str:
    try:
        return f"resume from {newest(output).name}, which is whole"
    except SamplewiseError:
        return "start again: there is no checkpoint yet"


@contextmanager
def replaced(folder: Path) -> Iterator[None]:
    """On an error, remove what is half written, and put back the checkpoint that was there before."""
    aside = _aside(folder)
    if folder.exists() and is_whole(folder):
        shutil.rmtree(aside, ignore_errors=True)
        folder.rename(aside)
    try:
        yield
    except BaseException:
        remove(folder)
        if aside.exists():
            aside.rename(folder)
        raise
    shutil.rmtree(aside, ignore_errors=True)


def _aside(folder: Path) -> Path:
    return folder.with_name(f".{folder.name}.before")


def rotate(written: Path, limit: int | None, best: str | None) -> None:
    """Delete checkpoints until `limit` are left; never the one just written, nor the best.

    First go those that are not whole, then those of a later step, which an earlier run left here, then the lowest
    steps. Times of files play no part: a copy, or a clock set back, changes them. limit: None or 0 for no limit.
    """
    if not limit or limit < 0:
        return
    kept = {written.resolve()} | ({Path(best).resolve()} if best is not None else set())
    found, step = _checkpoints(written.parent), step_of(written)
    order = sorted(found, key=lambda folder: (is_whole(folder), step_of(folder) <= step, step_of(folder)))
    others = [folder for folder in order if folder.resolve() not in kept]
    for folder in others[: max(0, len(found) - max(limit, len(kept)))]:
        remove(folder)


def remove(folder: Path) -> None:
    """Delete a checkpoint, out of sight first: half of one, as a kill in between leaves it, can look like a whole one.

    Without our state, which may go first, it would be taken for a plain trainer's.
    """
    gone = folder.with_name(f".{folder.name}{_REMOVED}")
    shutil.rmtree(gone, ignore_errors=True)
    with suppress(OSError):  # what stays has no marker
        folder.rename(gone)
    shutil.rmtree(gone, ignore_errors=True)


def _put_back(output: Path) -> None:
    """Put back checkpoints that a run set aside before it was killed while writing the new one; finish deletions."""
    for aside in output.glob(f".{PREFIX_CHECKPOINT_DIR}-*.before"):
        folder = output / aside.name.removeprefix(".").removesuffix(".before")
        if folder.exists() and is_whole(folder):
            shutil.rmtree(aside, ignore_errors=True)
            continue
        remove(folder)
        aside.rename(folder)
    for gone in output.glob(f".{PREFIX_CHECKPOINT_DIR}-*{_REMOVED}"):
        shutil.rmtree(gone, ignore_errors=True)


def step_of(folder: Path) -> int:
    """The step in a checkpoint's name."""
    return int(folder.name.removeprefix(f"{PREFIX_CHECKPOINT_DIR}-"))


def _checkpoints(output: Path) -> list[Path]:
    """The folders checkpoint-<step> of a run, by rising step."""
    named = output.glob(f"{PREFIX_CHECKPOINT_DIR}-*")
    return sorted((p for p in named if p.is_dir() and p.name.rsplit("-", 1)[1].isdecimal()), key=step_of)

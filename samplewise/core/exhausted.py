"""What a machine ran out of, recognised among the many errors of libraries: disk space, file handles, memory."""

from __future__ import annotations

import errno
import sys
from collections.abc import Iterator
from typing import Literal

from samplewise.core.errors import SamplewiseError

Want = Literal["room", "quota", "size", "handles", "threads"]

_NUMBERS: dict[int, Want] = {
    errno.ENOSPC: "room", errno.EDQUOT: "quota", errno.EFBIG: "size", errno.EMFILE: "handles", errno.ENFILE: "handles",
}  # fmt: skip
_MARKS: dict[str, Want] = {
    "No space left": "room", "os error 28": "room", "Disk quota exceeded": "quota", "os error 122": "quota",
    "File too large": "size", "os error 27": "size", "Too many open files": "handles", "os error 24": "handles",
    "received 0 items of ancdata": "handles",  # torch, handing tensors from worker to worker
    "can't start new thread": "threads",
    "PytorchStreamWriter failed": "room", "] . unexpected pos": "room",  # torch.save keeps no error number
}  # fmt: skip
_WORDS: dict[Want, tuple[str, str]] = {
    "room": ("room on the disk", "Make room"),
    "quota": ("room in your disk quota", "Make room"),
    "size": ("a disk that takes files of this size", "Raise the limit (ulimit -f), or name another disk"),
    "handles": ("enough file handles", "Raise their number (ulimit -n 4096), or use fewer dataloader workers"),
    "threads": ("enough threads", "Raise their number (ulimit -u, or that of the container), or use fewer workers"),
}


MORE_MEMORY = "Free some, or raise the limit of the process (ulimit -v) or of its container."
LESS_MEMORY = "Take fewer rows a micro-batch and more micro-batches: weights and gradient stay the same."
_UNMAPPED = ("failed to map segment", "annot allocate memory")
_FULL = ("out of memory", "can't allocate memory")  # CUDA's and Apple's; a CPU's


def lacks_memory(error: BaseException) -> bool:
    """Whether there was no memory: for a tensor, on any device, or for anything else."""
    return any(isinstance(each, MemoryError) or _is_unmapped(each) for each in _chain(error)) or lacks_room_for_tensors(
        error
    )


def lacks_room_for_tensors(error: BaseException) -> bool:
    """Whether torch found no memory, so that smaller batches may do."""
    own = getattr(sys.modules.get("torch"), "OutOfMemoryError", ())  # not imported here: there may be no memory for it
    return any(
        isinstance(each, own) or (isinstance(each, RuntimeError) and any(mark in str(each) for mark in _FULL))
        for each in _chain(error)
    )


def _is_unmapped(error: BaseException) -> bool:
    """Of a package whose libraries found no memory to be loaded to."""
    return isinstance(error, ImportError) and any(mark in str(error) for mark in _UNMAPPED)


def memory_remedy(error: BaseException) -> str:
    """What takes less memory, or gives more."""
    return LESS_MEMORY if lacks_room_for_tensors(error) else MORE_MEMORY


def advise(error: BaseException) -> None:
    """Add a note on what takes less memory to an error of a step that found too little."""
    if lacks_memory(error):
        error.add_note(memory_remedy(error))


def wanting(error: BaseException) -> Want | None:
    """What was missing, by the error or one that it was raised from; None if it is another error."""
    for each in _chain(error):
        if isinstance(each, OSError) and each.errno in _NUMBERS:
            return _NUMBERS[each.errno]
        if not isinstance(each, SamplewiseError):  # ours may quote a file's name
            for mark, want in _MARKS.items():
                if mark in str(each):
                    return want
    return None


def told(want: Want, argument: str, doing: str, then: str) -> SamplewiseError:
    """One sentence. doing: what it was needed for, such as "writing runs/a"; then: how to continue once it is there."""
    expected, remedy = _WORDS[want]
    got = "all in use" if want in ("handles", "threads") else "none left"
    got = "one that does not" if want == "size" else got
    return SamplewiseError(argument, expected=expected, got=f"{got} while {doing}", remedy=f"{remedy}, then {then}.")


def _chain(error: BaseException | None) -> Iterator[BaseException]:
    seen: set[int] = set()
    while error is not None and id(error) not in seen:
        yield error
        seen.add(id(error))
        error = error.__cause__ or error.__context__

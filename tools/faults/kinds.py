"""The kinds of faults, each drawn at random for a victim: kills, signals, failing disks, damage, neighbours, clocks."""

from __future__ import annotations

import errno
import os
import shutil
import signal
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from random import Random

from faults.changes import changed_inputs
from faults.numbers import bad_number
from faults.outcome import Clean, Outcome, judged
from faults.server import Run, run
from faults.shim import KILL, SLOW, TORN, Strike
from faults.victims import Victim

Inject = Callable[[Random, Victim, Clean, Path], Outcome]
ERRORS = {
    "no space": (errno.ENOSPC, True), "input/output error": (errno.EIO, False), "read-only": (errno.EROFS, True),
    "no file handles": (errno.EMFILE, True), "over quota": (errno.EDQUOT, True),
    "one write refused": (errno.EACCES, False),
}  # fmt: skip


def _place(dice: Random, clean: Clean) -> tuple[int, int]:
    """A process, and one of its calls."""
    rank = dice.randrange(len(clean.calls))
    return rank, dice.randint(1, max(1, clean.calls[rank]))


def killed_in_a_call(dice: Random, victim: Victim, clean: Clean, folder: Path) -> Outcome:
    """SIGKILL at a call that changes a file; in every third one after half of a write."""
    rank, number = _place(dice, clean)
    action = dice.choice([KILL, KILL, TORN])
    found = run(victim.start, folder, strike=Strike(action, number), ranks=victim.ranks, at_rank=rank)
    what = f"{'torn' if action == TORN else 'killed'} at call {number} of process {rank}"
    return judged("SIGKILL at a call", victim, what, clean, folder, found)


def killed_at_a_time(dice: Random, victim: Victim, clean: Clean, folder: Path) -> Outcome:
    """SIGKILL at a random moment; in every third run once more in the resumed one."""
    rank = dice.randrange(victim.ranks)
    what = ""
    found = Run([0])
    for _ in range(dice.choice([1, 1, 2])):
        moment = dice.uniform(0, clean.seconds)
        what += f"killed after {moment:.2f} s of process {rank}; "
        found = run(victim.start, folder, ranks=victim.ranks, at_rank=rank, signals=[(moment, signal.SIGKILL)])
    return judged("SIGKILL at a time", victim, what, clean, folder, found)


def asked_to_stop(dice: Random, victim: Victim, clean: Clean, folder: Path) -> Outcome:
    """SIGTERM or Ctrl-C, once or twice."""
    what, moment = dice.choice([signal.SIGTERM, signal.SIGINT]), dice.uniform(0, clean.seconds)
    signals = [(moment + 0.05 * n, what) for n in range(dice.choice([1, 2]))]
    found = run(victim.start, folder, ranks=victim.ranks, at_rank=dice.randrange(victim.ranks), signals=signals)
    return judged(
        "SIGTERM and Ctrl-C", victim, f"{len(signals)} × {what.name} after {moment:.2f} s", clean, folder, found
    )


def refused_call(dice: Random, victim: Victim, clean: Clean, folder: Path) -> Outcome:
    """A write, an fsync, a rename fails."""
    (name, (code, lasting)), (rank, number) = dice.choice(list(ERRORS.items())), _place(dice, clean)
    strike = Strike(code, number, lasting)
    found = run(victim.start, folder, strike=strike, ranks=victim.ranks, at_rank=rank)
    return judged("a call fails", victim, f"{name} at call {number} of process {rank}", clean, folder, found)


def slow_disk(dice: Random, victim: Victim, clean: Clean, folder: Path) -> Outcome:
    """Every call takes 2 ms; and a kill in the middle of it."""
    moment = dice.uniform(0, 2 * clean.seconds)
    found = run(
        victim.start, folder, strike=Strike(SLOW), ranks=victim.ranks, signals=[(moment, signal.SIGKILL)]
    )  # fmt: skip
    return judged("slow disk", victim, f"killed after {moment:.2f} s", clean, folder, found)


def jumping_clock(dice: Random, victim: Victim, clean: Clean, folder: Path) -> Outcome:
    """The wall clock jumps by a day, forward or back, in the middle of a run."""
    (rank, number), jump = _place(dice, clean), dice.choice([-1, 1]) * 86400
    strike = Strike(0, number, jump=jump)
    found = run(victim.start, folder, strike=strike, ranks=victim.ranks, at_rank=rank)
    return judged("clock jumps", victim, f"{jump:+d} s at call {number}", clean, folder, found, expected=_must_succeed)


def _must_succeed(found: Run) -> str:
    return f"exit code {found.code}" if found.code else ""


def _interrupted(dice: Random, victim: Victim, clean: Clean, folder: Path) -> Run:
    """A run killed at one of its later calls, so that there are files to damage."""
    rank, number = _place(dice, clean)
    number = max(number, clean.calls[rank] // 2)
    return run(victim.start, folder, strike=Strike(KILL, number), ranks=victim.ranks, at_rank=rank)


def _files(folder: Path) -> list[Path]:
    return sorted(path for path in (folder / "out").rglob("*") if path.is_file() and path.stat().st_size)


def damaged_file(dice: Random, victim: Victim, clean: Clean, folder: Path) -> Outcome:
    """A byte of one file is flipped, or the file is emptied, between a kill and the resume."""
    found = _interrupted(dice, victim, clean, folder)
    files = _files(folder)
    if not files:
        return judged("damaged file", victim, "nothing to damage", clean, folder, found)
    path = dice.choice(files)
    data = bytearray(path.read_bytes())
    place = dice.randrange(len(data))
    if emptied := dice.random() < 0.3:
        data = bytearray()
    else:
        data[place] ^= 1 << dice.randrange(8)
    path.write_bytes(data)
    what = f"{path.relative_to(folder / 'out')} {'emptied' if emptied else f'with byte {place} flipped'}"
    return judged("damaged file", victim, what, clean, folder, found, may_refuse=True)


def wrong_times(dice: Random, victim: Victim, clean: Clean, folder: Path) -> Outcome:
    """Times of all files in the future, in the past, in a random order, or lost by copying the folder."""
    found = _interrupted(dice, victim, clean, folder)
    what = dice.choice(["future", "past", "shuffled", "copied"])
    if what == "copied" and (folder / "out").exists():
        shutil.copytree(folder / "out", folder / "copy", copy_function=shutil.copy)
        shutil.rmtree(folder / "out")
        (folder / "copy").rename(folder / "out")
    for path in (folder / "out").rglob("*"):
        moment = {"future": time.time() + 9e6, "past": 1e6}.get(what, dice.uniform(1e6, 2e9))
        if what != "copied":
            os.utime(path, (moment, moment))
    return judged("file times", victim, what, clean, folder, found)


def two_at_once(dice: Random, victim: Victim, clean: Clean, folder: Path) -> Outcome:
    """The same command twice, at once, on one folder: they share the work, or one says that the folder is in use."""
    found = run(victim.start, folder, ranks=2, launched=False)
    return judged("two runs, one folder", victim, "started together", clean, folder, found)


@dataclass(frozen=True)
class Kind:
    """inject: does it, and judges. weight: how often it is drawn, beside the others. suits: the victims it has."""

    inject: Inject
    weight: float = 1.0
    suits: Callable[[Victim], bool] = lambda victim: True


def _own(victim: Victim) -> bool:
    """Of kinds that make their own run: one victim stands for them."""
    return victim.name == "WeightedTrainer"


KINDS: dict[str, Kind] = {
    "SIGKILL at a call": Kind(killed_in_a_call, 6),
    "SIGKILL at a time": Kind(killed_at_a_time, 4),
    "SIGTERM and Ctrl-C": Kind(asked_to_stop, 2),
    "a call fails": Kind(refused_call, 4),
    "damaged file": Kind(damaged_file, 3),
    "file times": Kind(wrong_times),
    "slow disk": Kind(slow_disk),
    "clock jumps": Kind(jumping_clock),
    "two runs, one folder": Kind(two_at_once, 1, lambda victim: victim.ranks == 1 and not victim.script),
    "bad numbers": Kind(bad_number, 2, _own),
    "changed inputs": Kind(changed_inputs, 2, _own),
}

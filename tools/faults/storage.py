"""Faults of what is stored: damaged and empty files, wrong times, limits, and locks that nobody holds."""

from __future__ import annotations

import os
import shutil
import time
from pathlib import Path
from random import Random

from faults.outcome import Clean, Outcome, judged, struck
from faults.server import Run
from faults.shim import KILL, Strike
from faults.victims import Victim

LOCKS = (".lock", ".parts/run.lock", ".parts/rank-0.lock", ".parts/00000.claim", ".parts/finish.claim")
"""Where commands keep their locks."""


def place_of(dice: Random, clean: Clean) -> tuple[int, int]:
    """A process, and one of its calls."""
    rank = dice.randrange(len(clean.calls))
    return rank, dice.randint(1, max(1, clean.calls[rank]))


def _interrupted(dice: Random, victim: Victim, clean: Clean, folder: Path) -> Run:
    """A run killed at one of its later calls, so that there are files to damage."""
    rank, number = place_of(dice, clean)
    number = max(number, clean.calls[rank] // 2)
    return struck(victim, folder, strike=Strike(KILL, number), at_rank=rank)


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


def limited_files(dice: Random, victim: Victim, clean: Clean, folder: Path) -> Outcome:
    """Files may grow to a random size only, as under `ulimit -f`."""
    largest = int(2 ** dice.uniform(13, 17))  # what is said must still fit
    found = struck(victim, folder, at_rank=dice.randrange(victim.ranks), largest_file=largest)
    return judged("file size limit", victim, f"{largest:,} bytes", clean, folder, found)


def stale_locks(dice: Random, victim: Victim, clean: Clean, folder: Path) -> Outcome:
    """Lock files of a dead process, and half a file of one on another machine, lie there when the run is resumed."""
    found = _interrupted(dice, victim, clean, folder)
    text = dice.choice(["", "4711", f"{2**30} another-machine"])
    for path in (folder / "out" / name for name in LOCKS):
        if path.parent.exists():
            path.write_text(text)
    for path in _files(folder):
        if not path.name.startswith("."):
            path.with_name(f".{path.name}.4711").write_bytes(path.read_bytes()[:9])
    return judged("stale locks", victim, f"with {text!r} in them", clean, folder, found)

"""The kinds of faults, each drawn at random for a victim: kills, signals, failing disks, damage, neighbours, clocks."""

from __future__ import annotations

import errno
import signal
from collections.abc import Callable
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from random import Random

from faults.changes import changed_inputs
from faults.numbers import bad_number
from faults.on_ray import killed_on_ray
from faults.outcome import Clean, Outcome, judged, struck
from faults.server import Run, run
from faults.shim import KILL, SLOW, TORN, Strike
from faults.storage import damaged_file, limited_files, place_of, stale_locks, wrong_times
from faults.victims import Victim

Inject = Callable[[Random, Victim, Clean, Path], Outcome]
ERRORS = {
    "no space": (errno.ENOSPC, True), "input/output error": (errno.EIO, False), "read-only": (errno.EROFS, True),
    "no file handles": (errno.EMFILE, True), "over quota": (errno.EDQUOT, True),
    "one write refused": (errno.EACCES, False),
}  # fmt: skip


def killed_in_a_call(dice: Random, victim: Victim, clean: Clean, folder: Path) -> Outcome:
    """SIGKILL at a call that changes a file; in every third one after half of a write."""
    rank, number = place_of(dice, clean)
    action = dice.choice([KILL, KILL, TORN])
    found = struck(victim, folder, strike=Strike(action, number), at_rank=rank)
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
        found = struck(victim, folder, at_rank=rank, signals=[(moment, signal.SIGKILL)])
    return judged("SIGKILL at a time", victim, what, clean, folder, found)


def asked_to_stop(dice: Random, victim: Victim, clean: Clean, folder: Path) -> Outcome:
    """SIGTERM, Ctrl-C or the end of the terminal, once or twice."""
    what, moment = dice.choice([signal.SIGTERM, signal.SIGINT, signal.SIGHUP]), dice.uniform(0, clean.seconds)
    signals = [(moment + 0.05 * n, what) for n in range(dice.choice([1, 2]))]
    found = struck(victim, folder, at_rank=dice.randrange(victim.ranks), signals=signals)
    return judged(
        "SIGTERM, Ctrl-C, SIGHUP", victim, f"{len(signals)} × {what.name} after {moment:.2f} s", clean, folder, found
    )


def paused(dice: Random, victim: Victim, clean: Clean, folder: Path) -> Outcome:
    """Stopped as by Ctrl-Z or a scheduler, and continued after up to two seconds: nothing comes of it."""
    moment, pause = dice.uniform(0, clean.seconds), dice.uniform(0.1, 2)
    signals = [(moment, signal.SIGSTOP), (moment + pause, signal.SIGCONT)]
    found = struck(victim, folder, at_rank=dice.randrange(victim.ranks), signals=signals)
    what = f"for {pause:.1f} s after {moment:.2f} s"
    return judged("paused", victim, what, clean, folder, found, expected=_must_succeed)


def refused_call(dice: Random, victim: Victim, clean: Clean, folder: Path) -> Outcome:
    """A write, an fsync, a rename fails."""
    (name, (code, lasting)), (rank, number) = dice.choice(list(ERRORS.items())), place_of(dice, clean)
    strike = Strike(code, number, lasting)
    found = struck(victim, folder, strike=strike, at_rank=rank)
    return judged("a call fails", victim, f"{name} at call {number} of process {rank}", clean, folder, found)


def slow_disk(dice: Random, victim: Victim, clean: Clean, folder: Path) -> Outcome:
    """Every call takes 2 ms; and a kill in the middle of it."""
    moment = dice.uniform(0, 2 * clean.seconds)
    found = struck(victim, folder, strike=Strike(SLOW), signals=[(moment, signal.SIGKILL)])
    return judged("slow disk", victim, f"killed after {moment:.2f} s", clean, folder, found)


def jumping_clock(dice: Random, victim: Victim, clean: Clean, folder: Path) -> Outcome:
    """The wall clock jumps by a day, forward or back, in the middle of a run."""
    (rank, number), jump = place_of(dice, clean), dice.choice([-1, 1]) * 86400
    strike = Strike(0, number, jump=jump)
    found = struck(victim, folder, strike=strike, at_rank=rank)
    return judged("clock jumps", victim, f"{jump:+d} s at call {number}", clean, folder, found, expected=_must_succeed)


def _must_succeed(found: Run) -> str:
    return f"exit code {found.code}" if found.code else ""


def two_at_once(dice: Random, victim: Victim, clean: Clean, folder: Path) -> Outcome:
    """The same command twice, at once, on one folder: they share the work, or one says that the folder is in use."""
    found = run(victim.start, folder, ranks=2, group="alone")
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
    "SIGTERM, Ctrl-C, SIGHUP": Kind(asked_to_stop, 2),
    "paused": Kind(paused),
    "a call fails": Kind(refused_call, 4),
    "damaged file": Kind(damaged_file, 3),
    "file times": Kind(wrong_times),
    "file size limit": Kind(limited_files),
    "stale locks": Kind(stale_locks),
    "slow disk": Kind(slow_disk),
    "clock jumps": Kind(jumping_clock),
    "two runs, one folder": Kind(two_at_once, 1, lambda victim: victim.ranks == 1 and not victim.script),
    "Ray": Kind(killed_on_ray, 0.5, lambda victim: victim.name == "score" and find_spec("ray") is not None),
    "bad numbers": Kind(bad_number, 2, _own),
    "changed inputs": Kind(changed_inputs, 2, _own),
}

"""What came of a fault: whether the same command afterwards ends as if it had never been."""

from __future__ import annotations

import re
import signal
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from fuzz.inputs.judge import fault_of

from faults.server import Run, run
from faults.trainings import STEPS
from faults.victims import Victim

CRASHES = (signal.SIGABRT, signal.SIGSEGV, signal.SIGBUS, signal.SIGFPE, signal.SIGILL)


@dataclass(frozen=True)
class Outcome:
    """kind, victim, what: the fault. lost: finished work that was done again or is gone (steps, or files).

    differing: results that are not those of a clean run. fault: what is wrong, in words; empty if it survived.
    """

    kind: str
    victim: str
    what: str
    lost: int = 0
    differing: int = 0
    fault: str = ""

    def as_json(self) -> dict[str, Any]:
        """For the file of results."""
        return asdict(self)


@dataclass(frozen=True)
class Clean:
    """A run that nothing happened to: its end, its calls that change files by process, its seconds and steps."""

    end: dict[str, str]
    calls: list[int]
    seconds: float
    steps: int = STEPS


def struck(victim: Victim, folder: Path, **how: Any) -> Run:
    """Run it with a fault; how: as `run` takes it."""
    return run(victim.start, folder, ranks=victim.ranks, group=victim.group, patience=victim.patience, **how)


def clean_run(victim: Victim, folder: Path) -> Clean:
    """Run it undisturbed."""
    found = struck(victim, folder)
    if found.code:
        raise RuntimeError(f"{victim.name} fails without any fault: {found.said[-2000:]}")
    return Clean(victim.end(folder), found.calls, found.seconds, found.steps)


def judged(
    kind: str,
    victim: Victim,
    what: str,
    clean: Clean,
    folder: Path,
    found: Run,
    *,
    may_refuse: bool = False,
    expected: Callable[[Run], str] | None = None,
) -> Outcome:
    """Recover, and compare with the clean run.

    found: the run that the fault happened to. may_refuse: whether the recovery may end in one sentence instead, which
    says what is damaged. expected: what is wrong with that run itself, empty if nothing is.
    """
    facts = (kind, victim.name, what)
    if found.hung:
        return Outcome(*facts, fault=f"hung: {found.said[-300:]}")
    if not victim.plain and (wrong := _words(found, victim) or (expected(found) if expected else "")):
        return Outcome(*facts, fault=f"{wrong}: {found.said[-500:]}")
    lost = 0
    if found.code or not _ended(victim, folder):
        before, whole = newest(victim, folder), finished_files(victim, folder)
        again = struck(victim, folder)
        if again.code > 0 and may_refuse and not victim.plain and not _words(again, victim):
            return Outcome(*facts)
        if again.code or again.hung:
            return Outcome(*facts, fault=f"not recovered, {'hung' if again.hung else again.codes}: {again.said[-500:]}")
        lost = max(0, again.steps - (clean.steps - before)) if victim.trains and victim.name != "compare" else 0
        lost += sum(mark != _mark(folder, name) for name, mark in whole.items())
    end = victim.end(folder)
    differing = sum(end.get(name) != clean.end.get(name) for name in end.keys() | clean.end.keys())
    names = [name for name in end.keys() | clean.end.keys() if end.get(name) != clean.end.get(name)]
    fault = f"{', '.join(sorted(names)[:4])} differ" if differing else f"{lost} done again" if lost else ""
    return Outcome(*facts, lost, differing, fault)


def _words(found: Run, victim: Victim) -> str:
    """What is wrong with how a run ended that was not killed: no sentence, a traceback.

    Ranks whose neighbour was killed may end as they like: their launcher kills them too.
    """
    if crashed := [code for code in found.codes if -code in CRASHES]:
        return f"a crash by signal {-crashed[0]}"
    codes = [code for code in found.codes if code > 0 and code != 130]
    if not codes or (victim.group == "launched" and any(code < 0 for code in found.codes)):
        return ""
    if victim.script:
        known = re.search(
            r"^(samplewise\S*SamplewiseError|OSError|\w+Error: \[Errno|RuntimeError: .*strerror: \w|KeyboardInterrupt)",
            found.said,
            re.M,
        )
        return "" if known else "an error without a reason"
    return fault_of(codes[0], found.said)


def _ended(victim: Victim, folder: Path) -> bool:
    try:
        return bool(victim.end(folder))
    except (OSError, ValueError, KeyError):
        return False


def newest(victim: Victim, folder: Path) -> int:
    """The step of the newest checkpoint that a resume may start from."""
    if not victim.trains:
        return 0
    marker = "trainer_state.json" if victim.plain else "samplewise/complete.json"
    steps = [re.search(r"checkpoint-(\d+)", str(path)) for path in (folder / "out").glob(f"checkpoint-*/{marker}")]
    return max((int(step[1]) for step in steps if step), default=0)


def finished_files(victim: Victim, folder: Path) -> dict[str, tuple[int, int]]:
    """Of scores: the shards that are finished, with what changes when they are written again.

    A shard without its entry beside it is not finished: a killed run repeats at most one.
    """
    if not victim.shares:
        return {}
    entered = {f"shard-{path.name.split('.')[0]}.parquet" for path in (folder / "out").rglob("*.done.json")}
    return {name: _mark(folder, name) for name in sorted(entered)}


def _mark(folder: Path, name: str) -> tuple[int, int]:
    """What changes when a shard is written again; zeros where it is gone."""
    found = next((folder / "out").rglob(name), None)
    return (0, 0) if found is None else (found.stat().st_ino, found.stat().st_mtime_ns)

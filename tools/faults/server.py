"""Runs of a command as forks of one process that has imported everything: a fraction of a second for each."""

from __future__ import annotations

import json
import os
import resource
import signal
import sys
import time
import traceback
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from faults import shim
from faults.shim import Strike

PATIENCE = 120.0
"""Seconds after which a run counts as hung; those in which the machine stops this process too do not count."""
STOPPED = 2.0
"""Seconds between two looks at the processes that mean that."""
Work = Callable[[Path], object]
"""What a process does in its folder; a command of the library, or training in Python."""
Group = Literal["launched", "array", "alone"]
"""Several processes: ranks that a launcher ends together, tasks of an array that it does not, or strangers."""


@dataclass
class Run:
    """codes: of each process; −9 is death by SIGKILL. said: their stderr. calls: of each, that changed files.

    steps: optimizer steps that the last process made. hung: whether it had to be ended.
    """

    codes: list[int]
    said: str = ""
    calls: list[int] = field(default_factory=list)
    steps: int = 0
    seconds: float = 0.0
    hung: bool = False

    @property
    def code(self) -> int:
        """The first that is not 0."""
        return next((code for code in self.codes if code), 0)


def run(
    work: Work,
    folder: Path,
    *,
    strike: Strike | None = None,
    ranks: int = 1,
    at_rank: int = 0,
    signals: Sequence[tuple[float, int]] = (),
    patience: float = PATIENCE,
    group: Group = "launched",
    largest_file: int | None = None,
) -> Run:
    """Do the work in as many processes. signals: (seconds from the start, signal) for the process at `at_rank`.

    largest_file: bytes that a file of the process at `at_rank` may have.
    """
    began, launched = time.monotonic(), group == "launched" and ranks > 1
    port = _port() if launched else 0
    children = []
    for rank in range(ranks):
        own = _environment(group, rank, ranks, port) if ranks > 1 else {}
        struck = (strike or Strike(), largest_file) if rank == at_rank else (Strike(), None)
        children.append(_child(work, folder, rank, own, *struck))
    found = Run([0] * ranks, calls=[0] * ranks)
    alive, left = {pid: rank for rank, pid in enumerate(children)}, list(signals)
    looked, away = began, 0.0
    while alive:
        pid, status = os.waitpid(-1, os.WNOHANG)
        if pid in alive:
            found.codes[alive.pop(pid)] = os.waitstatus_to_exitcode(status)
            if launched and any(code < 0 for code in found.codes):  # as a launcher does
                _end(alive)
        looked, before = time.monotonic(), looked
        away += looked - before if looked - before > STOPPED else 0.0
        spent = looked - began - away
        while left and spent >= left[0][0]:
            _, what = left.pop(0)
            if children[at_rank] in alive:
                os.kill(children[at_rank], what)
        if spent > patience and alive and not found.hung:
            found.hung = True
            _end(alive)
        if not pid:
            time.sleep(0.005)
    found.seconds = time.monotonic() - began
    _read(found, folder, ranks)
    return found


def _end(alive: dict[int, int]) -> None:
    for pid in alive:
        os.kill(pid, signal.SIGKILL)


def _read(found: Run, folder: Path, ranks: int) -> None:
    for rank in range(ranks):
        said, facts = folder / f".said-{rank}", folder / f".facts-{rank}"
        found.said += said.read_text(errors="replace") if said.exists() else ""
        if facts.exists():
            kept = json.loads(facts.read_text())
            found.calls[rank], found.steps = kept["calls"], kept["steps"]
            facts.unlink()
        said.unlink(missing_ok=True)


def _port() -> int:
    import socket

    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def _environment(group: Group, rank: int, ranks: int, port: int) -> dict[str, str]:
    if group == "array":
        names = {"ID": rank, "MIN": 0, "COUNT": ranks}
        return {f"SLURM_ARRAY_TASK_{name}": str(value) for name, value in names.items()}
    if group == "alone":
        return {}
    names = {"RANK": rank, "LOCAL_RANK": rank, "WORLD_SIZE": ranks, "LOCAL_WORLD_SIZE": ranks, "MASTER_PORT": port}
    return {"MASTER_ADDR": "127.0.0.1"} | {name: str(value) for name, value in names.items()}


def _child(
    work: Work, folder: Path, rank: int, environment: dict[str, str], strike: Strike, largest_file: int | None
) -> int:
    pid = os.fork()
    if pid:
        return pid
    code = 1
    try:
        said = os.open(folder / f".said-{rank}", os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o644)
        os.dup2(said, 1)
        os.dup2(said, 2)
        os.chdir(folder)
        os.environ.update(environment)
        if largest_file is not None:
            resource.setrlimit(resource.RLIMIT_FSIZE, (largest_file, resource.RLIM_INFINITY))
        code = _worked(work, folder, rank, strike)
    except BaseException:
        traceback.print_exc()
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)


def _worked(work: Work, folder: Path, rank: int, strike: Strike) -> int:
    from torch.optim.optimizer import register_optimizer_step_pre_hook

    steps = [0]

    def count(*args: Any) -> None:
        steps[0] += 1

    register_optimizer_step_pre_hook(count)
    shim.arm(folder / "out", strike)
    try:
        work(folder)
        code = 0
    except SystemExit as ended:
        code = int(ended.code or 0)
    kept, made = shim.calls(), steps[0]
    shim.arm(Path("/nowhere"), Strike())
    resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
    (folder / f".facts-{rank}").write_text(json.dumps({"calls": kept, "steps": made}))
    return code


def command(*words: str) -> Work:
    """A command of the library. `{out}` in a word is the folder that faults happen in."""

    def work(folder: Path) -> None:
        from samplewise.cli.app import app

        app([word.replace("{out}", str(folder / "out")) for word in words], prog_name="samplewise")

    return work

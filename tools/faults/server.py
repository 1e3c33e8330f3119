"""Runs of a command as forks of one process that has imported everything: a fraction of a second for each."""

from __future__ import annotations

import json
import os
import signal
import sys
import time
import traceback
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from faults import shim
from faults.shim import Strike

PATIENCE = 120.0
"""Seconds after which a run counts as hung."""
Work = Callable[[Path], object]
"""What a process does in its folder; a command of the library, or training in Python."""


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
    launched: bool = True,
) -> Run:
    """Do the work in as many processes. signals: (seconds from the start, signal) for the process at `at_rank`.

    launched: the processes are ranks of one group; False where they are started side by side and know nothing of it.
    """
    began, port = time.monotonic(), _port() if launched and ranks > 1 else 0
    children = [
        _child(work, folder, rank, ranks if launched else 1, port, strike if strike and rank == at_rank else Strike())
        for rank in range(ranks)
    ]  # fmt: skip
    found = Run([0] * ranks, calls=[0] * ranks)
    alive, left = {pid: rank for rank, pid in enumerate(children)}, list(signals)
    while alive:
        pid, status = os.waitpid(-1, os.WNOHANG)
        if pid in alive:
            found.codes[alive.pop(pid)] = os.waitstatus_to_exitcode(status)
            if launched and any(code < 0 for code in found.codes):  # as a launcher does
                _end(alive)
        spent = time.monotonic() - began
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


def _child(work: Work, folder: Path, rank: int, ranks: int, port: int, strike: Strike) -> int:
    pid = os.fork()
    if pid:
        return pid
    code = 1
    try:
        said = os.open(folder / f".said-{rank}", os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o644)
        os.dup2(said, 1)
        os.dup2(said, 2)
        os.chdir(folder)
        if ranks > 1:
            os.environ.update(
                RANK=str(rank), LOCAL_RANK=str(rank), WORLD_SIZE=str(ranks), LOCAL_WORLD_SIZE=str(ranks),
                MASTER_ADDR="127.0.0.1", MASTER_PORT=str(port),
            )  # fmt: skip
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
    (folder / f".facts-{rank}").write_text(json.dumps({"calls": kept, "steps": made}))
    return code


def command(*words: str) -> Work:
    """A command of the library. `{out}` in a word is the folder that faults happen in."""

    def work(folder: Path) -> None:
        from samplewise.cli.app import app

        app([word.replace("{out}", str(folder / "out")) for word in words], prog_name="samplewise")

    return work

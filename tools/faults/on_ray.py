"""`score` on the actors of a Ray cluster, one of which, or their node, or the driver, is killed."""

from __future__ import annotations

import ctypes
import os
import signal
import subprocess
import sys
import threading
import time
from dataclasses import replace
from functools import partial
from pathlib import Path
from random import Random

from fuzz.inputs.world import World

from faults.outcome import Clean, Outcome, judged
from faults.server import Run
from faults.victims import Victim, scoring

PATIENCE = 300.0
"""Seconds for a cluster to start, score and end, on a machine that does other things too."""


def killed_on_ray(dice: Random, victim: Victim, clean: Clean, folder: Path) -> Outcome:
    """SIGKILL as actors score. An actor: Ray gives its shards to another. The node: the command starts a new one, or
    says in a sentence that none lasts. The driver: the same command resumes.
    """
    whom = dice.choice(["actor", "node", "driver"])
    on_ray = replace(victim, name="score on Ray", start=partial(_score, victim.world), patience=PATIENCE)
    found = _started(victim.world, folder, whom, wait=dice.uniform(0, 2))
    if whom == "actor" and found.code:
        return Outcome("Ray", on_ray.name, whom, fault=f"ended with its actor: {found.said[-500:]}")
    return judged("Ray", on_ray, f"killed: {whom}", clean, folder, found)


def _score(world: World, folder: Path) -> None:
    raise SystemExit(_started(world, folder, "nobody", wait=0).code)


def _started(world: World, folder: Path, whom: str, wait: float) -> Run:
    words = [word.replace("{out}", str(folder / "out")) for word in scoring(world)]
    command = [sys.executable, "-m", "samplewise", *words, "--engine", "ray", "--workers", "2"]
    environment = {name: value for name, value in os.environ.items() if name != "LD_PRELOAD"}
    environment["RAY_worker_niceness"] = "0"  # Ray's 15 starves actors on a machine that is busy
    process = subprocess.Popen(
        command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True, env=environment,
        start_new_session=True, preexec_fn=_die_with_parent,
    )  # fmt: skip
    if whom != "nobody":
        threading.Thread(target=_kill, args=(process, whom, wait), daemon=True).start()
    try:
        said = process.communicate(timeout=PATIENCE)[1]
        return Run([process.returncode], said)
    except subprocess.TimeoutExpired:
        process.kill()
        return Run([process.wait()], hung=True)


def _die_with_parent() -> None:
    ctypes.CDLL(None).prctl(1, signal.SIGKILL)  # PR_SET_PDEATHSIG: a recovery that takes too long is ended itself


def _kill(process: subprocess.Popen[str], whom: str, wait: float) -> None:
    while process.poll() is None:
        if _processes(process.pid, "actor"):
            time.sleep(wait)
            try:
                os.kill(process.pid if whom == "driver" else _processes(process.pid, whom)[0], signal.SIGKILL)
            except (IndexError, ProcessLookupError):
                continue  # it ended meanwhile; there may be another
            return
        time.sleep(0.05)


def _processes(driver: int, whom: str) -> list[int]:
    """The actors that score, or their raylet. Helpers of Ray are called ray:: too, and the node ends with one."""
    lines = _descendants(driver)
    if whom == "node":
        return [pid for pid, line in lines if line.split(" ")[0].endswith("/raylet")]
    return [pid for pid, line in lines if line.startswith("ray::") and "_Worker" in line]


def _descendants(pid: int) -> list[tuple[int, str]]:
    """(process, command line) of every process that comes from it."""
    parents: dict[int, int] = {}
    for each in Path("/proc").iterdir():
        if each.name.isdigit():
            try:
                parents[int(each.name)] = int((each / "stat").read_text().rpartition(")")[2].split()[1])
            except OSError:
                continue
    found, left = [], [pid]
    while left:
        above = left.pop()
        for child in [own for own, parent in parents.items() if parent == above]:
            left.append(child)
            try:
                found.append((child, Path(f"/proc/{child}/cmdline").read_bytes().replace(b"\0", b" ").decode()))
            except OSError:
                continue
    return found

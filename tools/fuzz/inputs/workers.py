"""Attacks in processes that may die or hang: the one that did is named, and the next goes on."""

from __future__ import annotations

import multiprocessing
import os
import resource
import sys
import tempfile
from collections import deque
from collections.abc import Iterator
from multiprocessing.connection import Connection, wait
from pathlib import Path
from time import monotonic
from typing import Any

from fuzz.inputs.attack import Attack
from fuzz.inputs.judge import Outcome, attempt, kind_of

START = 120.0
"""Seconds that a process has for its imports and its model."""
MEMORY = 32 << 30
"""Bytes of address space: what asks for more gets an error, and the machine stays alive."""


def outcomes(seeds: Iterator[int], jobs: int, limit: float) -> Iterator[Outcome]:
    """Of every seed, as they come. limit: seconds an attack may take."""
    left = deque(seeds)
    workers = [_Worker(limit) for _ in range(min(jobs, len(left)))]
    while workers:
        for worker in list(workers):
            if worker.idle and left:
                worker.give(left.popleft())
            elif worker.idle:
                worker.stop()
                workers.remove(worker)
        ready = wait([worker.pipe for worker in workers], timeout=1.0)
        for worker in workers:
            if found := worker.result(worker.pipe in ready):
                yield found


class _Worker:
    """A process with a seed at work in it, or none."""

    def __init__(self, limit: float) -> None:
        self.limit, self.seed = limit, -1
        self.attack: Attack | None = None
        self._start()

    def _start(self) -> None:
        context = multiprocessing.get_context("spawn")
        self.pipe, theirs = context.Pipe()
        self.process: Any = context.Process(target=_serve, args=(theirs,), daemon=True)
        self.process.start()
        theirs.close()
        self.began, self.known = monotonic(), False

    @property
    def idle(self) -> bool:
        return self.seed < 0

    def give(self, seed: int) -> None:
        self.seed, self.began, self.attack = seed, monotonic(), None
        self.pipe.send(seed)

    def result(self, ready: bool) -> Outcome | None:
        """What came of the seed, if anything has."""
        if self.idle:
            return None
        if ready:
            try:
                found: Outcome | Attack = self.pipe.recv()
                self.known = True
                if isinstance(found, Attack):
                    self.attack, self.began = found, monotonic()
                    return None
                self.seed = -1
                return found
            except (EOFError, OSError):
                self.process.join()
                return self._lost(f"the process died with code {self.process.exitcode}")
        if monotonic() - self.began > self.limit + (0 if self.known else START):
            return self._lost(f"no answer in {self.limit:.0f} s")
        return None

    def _lost(self, fault: str) -> Outcome:
        attack = self.attack or Attack([], "")
        found = Outcome(self.seed, kind_of(self.seed), "fault", fault, "", attack.what, tuple(attack.words))
        self.process.kill()
        self.seed = -1
        self._start()
        return found

    def stop(self) -> None:
        self.pipe.send(None)
        self.process.join(10)
        self.process.kill()


def _serve(pipe: Connection) -> None:
    """One attack after the other, until there are none. What libraries print into the process's own stderr is lost."""
    os.environ |= {"HF_HUB_OFFLINE": "1", "HF_DATASETS_OFFLINE": "1", "TOKENIZERS_PARALLELISM": "false"}
    sys.stderr = open(os.devnull, "w")  # noqa: SIM115  for as long as the process lives
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY, MEMORY))
    import torch

    from fuzz.inputs.world import build_world

    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as folder:
        world = build_world(Path(folder))
        while (seed := pipe.recv()) is not None:
            pipe.send(attempt(seed, world, pipe.send))

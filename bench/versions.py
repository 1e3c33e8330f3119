"""Steps of two checkouts of this project, as a ratio of CPU time with an interval.

    python bench/versions.py OLD NEW --pairs 27        # folders of the checkouts

A pair is one process of each checkout. Both start together and take their steps in turn, so that what else the machine
does falls on both alike. The ratio of a pair is that of the medians of its steps. Pairs vary by 5 %, with where the
memory of a process comes to lie: it takes tens of them to exclude 3 %.
"""

from __future__ import annotations

import argparse
import math
import os
import statistics
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import IO, cast


def take_steps(given: argparse.Namespace) -> None:
    """One process of a pair: a step for every line of standard input; its CPU seconds go to standard output."""
    from step import SHAPES, Turns, make_trainers

    shape = replace(SHAPES[given.shape], accumulation=1)
    trainers = make_trainers(shape, [given.variant], bf16=given.dtype == "bf16", steps=given.steps + 2)
    turns = Turns(trainers[given.variant])
    turns.step()  # the first includes the set-up
    print("ready", flush=True)
    for _ in range(given.steps):
        sys.stdin.readline()
        print(f"seconds {turns.step()[1]}", flush=True)
    os._exit(0)  # the run has steps to go


class Process:
    """One checkout's process: `step()` has it take one."""

    def __init__(self, checkout: Path, arguments: list[str]) -> None:
        command = [sys.executable, "-P", str(Path(__file__).resolve()), *arguments, "--one"]
        paths = os.pathsep.join(map(str, (checkout.resolve(), checkout.resolve() / "bench")))
        self.process = subprocess.Popen(
            command, cwd=checkout, env={**os.environ, "PYTHONPATH": paths}, text=True,
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL,
        )  # fmt: skip

    def wait_for(self, word: str) -> str:
        for line in cast("IO[str]", self.process.stdout):
            if line.startswith(word):
                return line.removeprefix(word)
        raise SystemExit(f"a process ended with {self.process.wait()}: run it with --one in its checkout to see why")

    def step(self) -> float:
        stdin = cast("IO[str]", self.process.stdin)
        stdin.write("\n")
        stdin.flush()
        return float(self.wait_for("seconds"))


def pair(given: argparse.Namespace, first: int) -> float:
    """New / old. first: which of the two starts."""
    processes = [Process(checkout, sys.argv[1:]) for checkout in (given.old, given.new)]
    for process in processes:
        process.wait_for("ready")
    seconds: list[list[float]] = [[], []]
    for k in range(given.steps):
        for which in ((first + k) % 2, (first + k + 1) % 2):
            seconds[which].append(processes[which].step())
    for process in processes:
        process.process.wait()
    old, new = map(statistics.median, seconds)
    return new / old


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("old", type=Path)
    parser.add_argument("new", type=Path)
    parser.add_argument("--pairs", type=int, default=9)
    parser.add_argument("--steps", type=int, default=6)
    parser.add_argument("--shape", default="llama6")
    parser.add_argument("--dtype", choices=["fp32", "bf16"], default="fp32")
    parser.add_argument("--variant", default="one_pass")
    parser.add_argument("--one", action="store_true", help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.one:
        take_steps(given)
    ratios = []
    for k in range(given.pairs):
        ratios.append(pair(given, k % 2))
        print(f"pair {k + 1}: {ratios[-1]:.3f}, load {os.getloadavg()[0]:.1f}", flush=True)
        if k:
            mean, spread = statistics.mean(ratios), statistics.stdev(ratios)
            upper = mean + t_quantile(k) * spread / math.sqrt(k + 1)
            print(
                f"  median {statistics.median(ratios):.3f}, mean {mean:.3f}, upper 95 % bound {upper:.3f}", flush=True
            )


def t_quantile(freedom: int) -> float:
    """Student's t at 97.5 %."""
    from scipy.stats import t  # pyright: ignore[reportMissingTypeStubs]

    return float(t.ppf(0.975, freedom))


if __name__ == "__main__":
    main()

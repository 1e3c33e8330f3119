"""The command: so many cases from this seed on, and every one that failed, as small as it gets."""

from __future__ import annotations

import argparse
import json
import multiprocessing
import sys
import time
from collections import Counter, defaultdict
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path

from fuzz.gradients.attempt import Verdict, attempt
from fuzz.gradients.case import draw
from fuzz.gradients.quiet import quiet
from fuzz.gradients.shrink import shrink

OFTEN = 100
"""Cases between two lines that say how far it is."""


def _case(number: int) -> Verdict:
    return attempt(draw(number))


def verdicts(first: int, count: int, jobs: int) -> Iterator[Verdict]:
    """Of the cases first … first + count − 1, in their order."""
    numbers = range(first, first + count)
    if jobs == 1:
        quiet()
        yield from map(_case, numbers)
        return
    with multiprocessing.get_context("spawn").Pool(jobs, initializer=quiet) as pool:
        yield from pool.imap(_case, numbers)


def main(words: list[str] | None = None) -> int:
    """0 where no case failed, else 1."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--count", type=int, default=100, help="how many configurations")
    parser.add_argument("--seed", type=int, default=0, help="the number of the first; --count 1 repeats one")
    parser.add_argument("--jobs", type=int, default=1, help="processes")
    parser.add_argument("--no-shrink", action="store_true", help="leave failures as they are")
    parser.add_argument("--results", type=Path, help="a file to write verdicts to, and to resume from")
    given = parser.parse_args(words)
    began = time.monotonic()
    before = _resumed(given.results)
    found = list(before)
    quiet()
    for verdict in verdicts(given.seed + len(before), given.count - len(before), given.jobs):
        found.append(_told(verdict, shrinks=not given.no_shrink))
        if given.results:
            with given.results.open("a") as file:
                file.write(json.dumps(found[-1]) + "\n")
        if len(found) % OFTEN == 0:
            rate = (len(found) - len(before)) / (time.monotonic() - began) * 3600
            print(f"{len(found):,} of {given.count:,}: {_counted(found)}; {rate:,.0f} an hour", file=sys.stderr)
    for line in _others(found):
        print(line)
    print(f"{_counted(found)} in {time.monotonic() - began:.0f} s")
    return int(any(each["failed"] for each in found))


def _resumed(path: Path | None) -> list[dict]:
    return [json.loads(line) for line in path.read_text().splitlines()] if path and path.exists() else []


def _told(verdict: Verdict, *, shrinks: bool) -> dict:
    """The verdict for the file of results; one that failed is printed, with its smallest case."""
    if verdict.failed:
        print(f"{verdict.kind}: {verdict.case}\n    {verdict.message}", flush=True)
        if shrinks and (small := shrink(verdict)) is not verdict:
            print(f"    smallest: {small.case}\n    {small.message}", flush=True)
    own = {key: value for key, value in asdict(verdict).items() if key != "case"}
    return {"seed": verdict.case.seed, "precision": verdict.case.precision, **own, "failed": verdict.failed}


def _counted(found: list[dict]) -> str:
    kinds = Counter(each["kind"] for each in found)
    return ", ".join(f"{count:,} {kind}" for kind, count in kinds.most_common())


def _others(found: list[dict]) -> Iterator[str]:
    """Why cases were refused or skipped, and the first seeds of each reason."""
    seeds: dict[str, list[int]] = defaultdict(list)
    for each in found:
        if each["kind"] in ("refused", "skipped"):
            seeds[f"{each['kind']}: {each['message'][:160]}"].append(each["seed"])
    for message, own in sorted(seeds.items(), key=lambda item: -len(item[1])):
        yield f"{len(own)} × {message} (seeds {', '.join(map(str, own[:3]))})"

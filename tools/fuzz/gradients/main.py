"""The command: so many cases from this seed on, and every one that failed, as small as it gets."""

from __future__ import annotations

import argparse
import multiprocessing
import time
from collections import Counter, defaultdict
from collections.abc import Iterator

from fuzz.gradients.attempt import Verdict, attempt
from fuzz.gradients.case import draw
from fuzz.gradients.quiet import quiet
from fuzz.gradients.shrink import shrink


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
    given = parser.parse_args(words)
    began, kinds, failed = time.monotonic(), Counter[str](), 0
    others: dict[str, list[int]] = defaultdict(list)
    quiet()
    for verdict in verdicts(given.seed, given.count, given.jobs):
        kinds[verdict.kind] += 1
        if verdict.kind in ("refused", "skipped"):
            others[f"{verdict.kind}: {verdict.message[:160]}"].append(verdict.case.seed)
        if verdict.failed:
            failed += 1
            print(f"{verdict.kind}: {verdict.case}\n    {verdict.message}", flush=True)
            if not given.no_shrink and (small := shrink(verdict)) is not verdict:
                print(f"    smallest: {small.case}\n    {small.message}", flush=True)
    for message, seeds in sorted(others.items(), key=lambda item: -len(item[1])):
        print(f"{len(seeds)} × {message} (seeds {', '.join(map(str, seeds[:3]))})")
    spent = time.monotonic() - began
    print(", ".join(f"{count} {kind}" for kind, count in kinds.most_common()), f"in {spent:.0f} s")
    return int(failed > 0)

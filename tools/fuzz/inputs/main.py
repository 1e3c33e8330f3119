"""The command: so many attacks from this seed on, and every one that did not end as it should."""

from __future__ import annotations

import argparse
import sys
import time
from collections import Counter

from fuzz.inputs.judge import KINDS, Outcome, kind_of
from fuzz.inputs.workers import outcomes


def main(words: list[str] | None = None) -> int:
    """0 where every attack ended well, else 1."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--count", type=int, default=100, help="how many attacks")
    parser.add_argument("--seed", type=int, default=0, help="the number of the first; --count 1 repeats one")
    parser.add_argument("--jobs", type=int, default=1, help="processes")
    parser.add_argument("--kind", choices=list(KINDS), help="only this kind")
    parser.add_argument("--limit", type=float, default=60.0, help="seconds an attack may take")
    parser.add_argument("--show", action="store_true", help="what came of every attack, not of faults alone")
    given = parser.parse_args(words)
    began = time.monotonic()
    seeds = [n for n in range(given.seed, given.seed + given.count) if given.kind in (None, kind_of(n))]
    endings, faults = Counter[str](), Counter[str]()
    for found in outcomes(iter(seeds), given.jobs, given.limit):
        endings[f"{found.kind}: {found.ending}"] += 1
        if found.ending == "fault":
            faults[f"{found.kind}: {found.fault}"] += 1
        if found.ending == "fault" or given.show:
            _show(found)
    for counts in (endings, faults):
        print("\n".join(f"{count:5} {name}" for name, count in sorted(counts.items())))
    print(f"{len(seeds)} attacks, {sum(faults.values())} faults in {time.monotonic() - began:.0f} s")
    return int(bool(faults))


def _show(found: Outcome) -> None:
    said = "\n".join(found.said.strip().splitlines()[-12:])[-1500:]
    shown = "\n    ".join([f"{found.ending}: seed {found.seed}, {found.kind}, {found.fault}", *said.splitlines()])
    print(f"{shown}\n    of {found.what!r}\n    {' '.join(map(repr, found.words))[:600]}", flush=True)
    sys.stdout.flush()

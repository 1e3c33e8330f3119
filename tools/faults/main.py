"""The command: faults drawn one after the other until the time is up, then a table; a file of results resumes it."""

from __future__ import annotations

import argparse
import json
import os
import sys
import tempfile
import time
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path
from random import Random
from typing import Any

from faults import shim


def main(words: list[str] | None = None) -> int:
    """0 where every fault was survived."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--minutes", type=float, default=25.0, help="how long to inject faults")
    parser.add_argument("--count", type=int, help="stop after so many faults")
    parser.add_argument("--seed", type=int, default=0, help="the number of the first fault; --count 1 repeats one")
    parser.add_argument("--victim", help="only victims whose name contains this")
    parser.add_argument("--kind", help="only kinds whose name contains this")
    parser.add_argument("--results", type=Path, help="a file to write outcomes to, and to resume from")
    parser.add_argument("--plain", action="store_true", help="the plain Trainer too, which may lose work")
    given = parser.parse_args(words)
    if reason := shim.reason_not_to():
        print(f"skipped: {reason}", file=sys.stderr)
        return 0
    shim.start_again_with_shim()
    outcomes = _resumed(given.results)
    for number, outcome in _injected(given, len(outcomes)):
        outcomes.append(outcome)
        if outcome["fault"]:
            print(
                f"fault {number}: {outcome['victim']}: {outcome['kind']}: {outcome['what']}\n    {outcome['fault']}",
                flush=True,
            )
        if given.results:
            with given.results.open("a") as file:
                file.write(json.dumps(outcome) + "\n")
    print(table(outcomes))
    return int(any(each["fault"] for each in outcomes if each["victim"] != "plain Trainer"))


def _resumed(path: Path | None) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text().splitlines()] if path and path.exists() else []


def _injected(given: argparse.Namespace, done: int) -> Iterator[tuple[int, dict[str, Any]]]:
    """Each fault in a folder of its own, from its number alone."""
    _import_all()
    from faults.kinds import KINDS
    from faults.outcome import Clean, clean_run

    with tempfile.TemporaryDirectory(prefix="samplewise-faults-") as name:
        base = Path(name)
        chosen = [v for v in _victims(base) if (given.plain or not v.plain) and (given.victim or "") in v.name]
        kinds = {
            name: kind for name, kind in KINDS.items() if (given.kind or "") in name and any(map(kind.suits, chosen))
        }
        clean: dict[str, Clean] = {}
        until, number = time.monotonic() + 60 * given.minutes, given.seed + done
        while time.monotonic() < until and (given.count is None or number < given.seed + given.count):
            dice = Random(f"fault {number}")
            kind = kinds[dice.choices(list(kinds), [kind.weight for kind in kinds.values()])[0]]
            victim = dice.choice([each for each in chosen if kind.suits(each)])
            if victim.name not in clean:
                clean[victim.name] = clean_run(victim, _folder(base, victim))
            folder = _folder(base, victim)
            yield number, kind.inject(dice, victim, clean[victim.name], folder).as_json()
            _remove(folder)
            number += 1


def _import_all() -> None:
    os.environ |= {"HF_HUB_OFFLINE": "1", "HF_DATASETS_OFFLINE": "1", "TOKENIZERS_PARALLELISM": "false"}
    import torch
    import transformers
    import trl  # noqa: F401

    import samplewise.cli.app
    import samplewise.corpus.score
    import samplewise.corpus.select
    import samplewise.evidence.compare
    import samplewise.evidence.experiment
    import samplewise.evidence.run.execute
    import samplewise.report
    import samplewise.trainers  # noqa: F401

    transformers.logging.set_verbosity_error()
    torch.set_num_threads(1)


def _victims(base: Path) -> list[Any]:
    from fuzz.inputs.world import World, build_world

    from faults.server import run
    from faults.victims import victims

    folder = base / "world"
    folder.mkdir()
    made = run(lambda _: build_world(folder), folder)  # in a process of its own: threads do not survive a fork
    if made.code:
        raise RuntimeError(made.said)
    return victims(World(folder / "model", folder / "corpus.jsonl", folder / "chat.jsonl", folder / "scores"))


def _folder(base: Path, victim: Any) -> Path:
    folder = Path(tempfile.mkdtemp(dir=base))
    if victim.into_folder:
        (folder / "out").mkdir()
    return folder


def _remove(folder: Path) -> None:
    import shutil

    shutil.rmtree(folder, ignore_errors=True)


def table(outcomes: list[dict[str, Any]]) -> str:
    """Markdown: a row for each kind, one for the plain Trainer where it ran too."""
    rows: dict[str, list[dict[str, Any]]] = defaultdict(list)
    for each in outcomes:
        plain = each["victim"] == "plain Trainer"
        rows[f"{each['kind']}{' (plain Trainer)' if plain else ''}"].append(each)
    lines = ["| fault | injected | survived | work lost | results differing |", "|---|---:|---:|---:|---:|"]
    for kind, found in sorted(rows.items()):
        survived = sum(not each["fault"] for each in found)
        lost, differing = sum(each["lost"] for each in found), sum(each["differing"] for each in found)
        lines.append(f"| {kind} | {len(found)} | {survived} | {lost} | {differing} |")
    return "\n".join(lines)

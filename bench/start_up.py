"""Seconds from a command's start to its end, where it has next to nothing to do: `python bench/start_up.py`.

Each command runs in a process of its own; rounds go through all of them in turn. Beside them, what cannot be undercut:
Python itself, and the import of torch. The bound of a command that needs torch is that import plus half a second. Files
of Python's bytecode are made by a round that does not count.
"""

from __future__ import annotations

import argparse
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from selection import make

QUICK, WITHOUT_TORCH, WITH_TORCH = 0.6, 0.8, 0.5
ROWS = 50
REFERENCES = {"python -c pass": ["-c", "pass"], "import torch": ["-c", "import torch"]}
COMMANDS: dict[str, tuple[float | None, str]] = {  # seconds allowed, None: of torch's import and half a second
    "help": (QUICK, "--help"),
    "version": (QUICK, "--version"),
    "rules": (QUICK, "rules"),
    "help of score": (QUICK, "score --help"),
    "report": (QUICK, "report {scores} --out {out}/page.html"),
    "select by rank": (WITHOUT_TORCH, "select {scores} --rule band(drop_top=0.1) --ids --out {out}/a.parquet"),
    "select a budget": (WITHOUT_TORCH, "select {scores} --tokens 5k --ids --out {out}/b.parquet"),
    "select at random": (WITHOUT_TORCH, "select {scores} --rule random_keep(0.5) --ids --out {out}/c.parquet"),
    "select by quotas": (
        WITHOUT_TORCH, "select {scores} --within source --alpha 0.5 --reweight --weights --out {out}/d.parquet"
    ),
    "select, ir_dro": (None, "select {scores} --rule ir_dro(r=1) --weights --out {out}/e.parquet"),
    "weights": (None, "weights --rule ir_dro(r=3) --losses 1,2,3,9"),
    "init": (None, "init --model {out} --data {texts} --out {out}/run.yaml"),
    "dedup": (None, "dedup {texts} --out {out}/deduped.jsonl"),
    "corrupt": (None, "corrupt {texts} {out}/noisy.jsonl {out}/labels.json"),
    "diagnose": (None, "diagnose {out}"),
    "importance": (None, "importance {scores} --target {texts}"),
    "score": (None, "score --model {out}/none --data {texts} --out {out}/scores"),
    "train": (None, "train {out}/none.yaml"),
    "compare": (None, "compare {out}/none.yaml"),
    "evaluate": (None, "evaluate {out}/none.yaml"),
    "probe": (None, "probe {out}/none.yaml"),
}  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--cases", nargs="*", default=list(COMMANDS))
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        words = prepared(Path(folder), options.cases)
        taken: dict[str, list[float]] = {name: [] for name in words}
        for _ in range(options.rounds + 1):
            for name, own in words.items():
                taken[name].append(seconds(own))
    medians = {name: statistics.median(each[1:]) for name, each in taken.items()}
    torch = medians["import torch"]
    print(f"{'median of ' + str(options.rounds):<36}{'seconds':>9}{'bound':>9}")
    for name, found in medians.items():
        bound = None if name not in COMMANDS else COMMANDS[name][0] or torch + WITH_TORCH
        said = "" if bound is None else f"{bound:>9.2f}{'' if found <= bound else '  missed'}"
        print(f"{name:<36}{found:>9.2f}{said}")


def prepared(folder: Path, cases: list[str]) -> dict[str, list[str]]:
    """Python's arguments, by case, the references first."""
    places = {"scores": folder / "made", "out": folder, "texts": folder / "texts.jsonl"}
    make(places["scores"], ROWS)
    places["texts"].write_text('{"text": "A text of a few words."}\n' * 20)
    own = {name: ["-m", "samplewise", *(word.format(**places) for word in COMMANDS[name][1].split())] for name in cases}
    return REFERENCES | own


def seconds(words: list[str]) -> float:
    """Wall seconds of one process; whether it ends in an error, as those without a model or run file do, is its own."""
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}
    environment["HF_HUB_OFFLINE"] = "1"
    start = time.perf_counter()
    subprocess.run([sys.executable, *words], capture_output=True, env=environment)
    return time.perf_counter() - start


if __name__ == "__main__":
    main()

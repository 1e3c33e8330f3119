"""R7: instruction rows with and without spoilt responses, and the held-out ones, always clean.

    python results/corpora/instructions.py

Needs build/results/given/dolly_3k.json. Spoilt are 20% of the training rows: half get the response of another row,
half their own with its words in random order.
"""

from __future__ import annotations

import json
import random
from collections.abc import Iterable
from pathlib import Path

from common import ROOT

from samplewise.core.checkpoint import write_bytes

HELD_OUT = 0.1
SPOILT = 0.2


def spoil(rows: list[dict[str, str]], draw: random.Random) -> dict[int, str]:
    """Spoil some of the rows in place; by row the kind."""
    chosen = draw.sample(range(len(rows)), round(SPOILT * len(rows)))
    half = len(chosen) // 2
    swapped, shuffled = chosen[:half], chosen[half:]
    outputs = [rows[i]["output"] for i in swapped]
    for place, i in enumerate(swapped):
        rows[i]["output"] = outputs[place - 1]
    for i in shuffled:
        words = rows[i]["output"].split()
        draw.shuffle(words)
        rows[i]["output"] = " ".join(words)
    return dict.fromkeys(swapped, "another's response") | dict.fromkeys(shuffled, "shuffled words")


def write_rows(path: Path, rows: Iterable[dict[str, str]]) -> None:
    """One JSON object a line."""
    path.parent.mkdir(parents=True, exist_ok=True)
    write_bytes(path, "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows).encode())


def main() -> None:
    draw = random.Random(0)
    given = json.loads((ROOT / "given/dolly_3k.json").read_text())
    rows = [{key: row.get(key) or "" for key in ("instruction", "input", "output")} for row in given]
    rows = [row for row in rows if row["output"].strip()]
    draw.shuffle(rows)
    count = round(HELD_OUT * len(rows))
    held_out, train = rows[:count], rows[count:]
    folder = ROOT / "dolly"
    write_rows(folder / "held_out.jsonl", held_out)
    write_rows(folder / "clean.jsonl", train)
    labels = spoil(train, draw)
    write_rows(folder / "spoilt.jsonl", train)
    write_bytes(folder / "labels.json", json.dumps(labels, indent=1).encode())
    print(f"{len(train):,} rows to train on, {len(labels):,} of them spoilt in spoilt.jsonl; {count:,} held out")


if __name__ == "__main__":
    main()

"""R4: three corpora where weights should have something to do: redundant, unequal, and noisy beside a target.

    python results/corpora/structured.py

All are openings of documents of packages that the base model was not trained on.
"""

from __future__ import annotations

import random
import shutil
import subprocess
import sys
from pathlib import Path

from common import ROOT, opening, split, write_texts
from prepare import collect

from samplewise.core.checkpoint import write_bytes

OPENING = 1500
MOST = 20
LICENCE = (
    "Licensed under the Apache License, Version 2.0 (the \"License\"); you may not use this file except in compliance "
    "with the License. You may obtain a copy of the License at\n\n    http://www.apache.org/licenses/LICENSE-2.0\n\n"
    "Unless required by applicable law or agreed to in writing, software distributed under the License is distributed "
    "on an \"AS IS\" BASIS, WITHOUT WARRANTIES OR CONDITIONS OF ANY KIND, either express or implied."
)  # fmt: skip
"""The boilerplate that every other repeated document begins with."""


def openings(packages: list[str]) -> tuple[list[str], list[str]]:
    """(training, held out) openings of the documents of some packages."""
    folder = ROOT / "_corpus"
    collect(packages, folder)
    train, held_out = split(folder)
    shutil.rmtree(folder)
    return [opening(d.text, OPENING) for d in train], [opening(d.text, OPENING) for d in held_out]


def redundant(folder: Path, draw: random.Random) -> None:
    """Each document 1 to 20 times, as often on a logarithmic scale, in random order; half with a licence before it."""
    train, held_out = openings(["scipy", "statsmodels", "astropy"])
    texts: list[str] = []
    for text in train:
        times = round(MOST ** draw.random())
        texts += [f"{LICENCE}\n\n{text}" if draw.random() < 0.5 else text] * times
    draw.shuffle(texts)
    write_texts(folder / "texts.jsonl", texts)
    write_texts(folder.parent / "redundant-held.jsonl", held_out)


def unequal(folder: Path, draw: random.Random) -> None:
    """Nine documents in ten about mathematics, one about networks; as many of each held out."""
    for name, share in (("sympy", 1.0), ("twisted", 0.2)):
        train, held_out = openings([name])
        write_texts(folder / name / "texts.jsonl", draw.sample(train, round(share * len(train))))
        write_texts(folder.parent / "unequal-held" / name / "texts.jsonl", held_out)


def targeted(folder: Path, draw: random.Random) -> None:
    """A mixture, a fifth of it spoilt, with some of the target's kind in it; and a small clean set of the target."""
    train, _ = openings(["scipy", "sympy", "statsmodels", "twisted", "sphinx"])
    target, held_out = openings(["astropy"])
    draw.shuffle(target)
    write_texts(folder.parent / "target" / "texts.jsonl", target[:80])
    write_texts(folder.parent / "target-held.jsonl", held_out + target[80:160])
    texts = train + target[160:]
    draw.shuffle(texts)
    write_texts(folder / "clean" / "texts.jsonl", texts)
    (folder / "noisy").mkdir()
    (folder / "with-target").mkdir()
    command = [sys.executable, "-m", "samplewise", "corrupt", f"{folder}/clean", f"{folder}/noisy/texts.jsonl"]
    subprocess.run([*command, f"{folder}/labels.json", "--share", "0.2"], check=True)
    texts_of = [folder / "noisy/texts.jsonl", folder.parent / "target/texts.jsonl"]
    write_bytes(folder / "with-target/texts.jsonl", b"".join(path.read_bytes() for path in texts_of))


def main() -> None:
    for name, make in (("redundant", redundant), ("unequal", unequal), ("targeted", targeted)):
        folder = ROOT / "structured" / name
        shutil.rmtree(folder, ignore_errors=True)
        make(folder, random.Random(0))


if __name__ == "__main__":
    main()

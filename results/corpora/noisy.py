"""R2: openings of the training documents, one in five spoilt, and selections of them by the loss of the start model,
and a random one.

    python results/corpora/noisy.py

Needs build/results/base/checkpoint-800. The openings are about as many tokens as a run trains on, so that scoring all
of them beforehand is a cost that a run can bear.
"""

from __future__ import annotations

import shutil
import subprocess
import sys

from common import ROOT, opening, split, write_texts

OPENING = 700
MODEL = ROOT / "base/checkpoint-800"
FOLDER = ROOT / "noise"
SELECTIONS = {
    "drop-top": ["--rule", "band(drop_top=0.1)", "--control", f"{FOLDER}/random.jsonl"],
    "drop-both": ["--rule", "band(drop_top=0.1, drop_bottom=0.1)"],
}


def samplewise(*arguments: str) -> None:
    """Run the command line."""
    subprocess.run([sys.executable, "-m", "samplewise", *arguments], check=True)


def main() -> None:
    train, held_out = split(ROOT / "docs")
    shutil.rmtree(FOLDER, ignore_errors=True)
    write_texts(FOLDER / "clean/texts.jsonl", [opening(document.text, OPENING) for document in train])
    write_texts(FOLDER / "held_out.jsonl", [document.text for document in held_out])
    (FOLDER / "noisy").mkdir()
    samplewise("corrupt", f"{FOLDER}/clean", f"{FOLDER}/noisy/texts.jsonl", f"{FOLDER}/labels.json", "--share", "0.2")
    scores = f"{FOLDER}/scores"
    samplewise("score", "--model", str(MODEL), "--data", f"{FOLDER}/noisy", "--out", scores, "--max-length", "128")
    for name, options in SELECTIONS.items():
        out = f"{FOLDER}/{name}.jsonl"
        samplewise("select", scores, *options, "--unit", "document", "--out", out)


if __name__ == "__main__":
    main()

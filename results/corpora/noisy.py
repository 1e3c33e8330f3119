"""R2: openings of the training documents, one in five spoilt, and selections of them by the loss of the start model.

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
SELECTIONS = {
    "drop-top": ["--rule", "band(drop_top=0.1)"],
    "drop-both": ["--rule", "band(drop_top=0.1, drop_bottom=0.1)"],
}


def samplewise(*arguments: str) -> None:
    """Run the command line."""
    subprocess.run([sys.executable, "-m", "samplewise", *arguments], check=True)


def main() -> None:
    train, held_out = split(ROOT / "docs")
    folder = ROOT / "noise"
    shutil.rmtree(folder, ignore_errors=True)
    write_texts(folder / "clean/texts.jsonl", [opening(document.text, OPENING) for document in train])
    write_texts(folder / "held_out.jsonl", [document.text for document in held_out])
    (folder / "noisy").mkdir()
    samplewise("corrupt", f"{folder}/clean", f"{folder}/noisy/texts.jsonl", f"{folder}/labels.json", "--share", "0.2")
    scores = f"{folder}/scores"
    samplewise("score", "--model", str(MODEL), "--data", f"{folder}/noisy", "--out", scores, "--max-length", "128")
    for name, options in SELECTIONS.items():
        out = f"{folder}/{name}.jsonl"
        samplewise("select", scores, *options, "--unit", "document", "--out", out)


if __name__ == "__main__":
    main()

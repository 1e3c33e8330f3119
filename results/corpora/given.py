"""Data that the package index does not have, taken from a folder of yours and checked by SHA-256.

    python results/corpora/given.py --data-root FOLDER

Only R3 (C4, LAMBADA, PIQA), R6 (C4, WikiText) and R7 (Dolly) need it. The files go to build/results/given.
"""

from __future__ import annotations

import argparse
import sys
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path

from common import ROOT

from samplewise.core.checkpoint import write_bytes


@dataclass(frozen=True)
class Given:
    """A file, its SHA-256, and where it was taken from: repository @ commit, path."""

    file: str
    sha256: str
    origin: str


FILES = [
    Given(
        "c4_600.jsonl", "aea54c22afae6b482e5d0e13748195048d9bed8023ced97d2b3c5884e9becb73",
        "Diffusion-bachelor/diffusion-data-constraint-rare-events @ 3305ae8, data/c4_sample.jsonl, rows 0 to 599",
    ),
    Given(
        "wikitext2_valid.txt", "f0737ed31fc1329026e95cb8b98e19c2a182c39c240ab909dc31abf2f8af58e8",
        "pytorch/examples @ 77f55b9, word_language_model/data/wikitext-2/valid.txt",
    ),
    Given(
        "dolly_3k.json", "cb8d16e85ec217a53587c96596a1e8971b8d72a2fd9d5bc23a2dd3d57b59eeea",
        "gpt4life/alpagasus @ 95ad3e5, 2,996 rows of Dolly",
    ),
    Given(
        "lambada_openai.jsonl", "411bfbe5b9054346b6a19299c0242670adbefb9162efd958593cbc0290b8c9dc",
        "mosaicml/llm-foundry, evaluation data, LAMBADA",
    ),
    Given(
        "piqa.jsonl", "d2870e73aec5154df3faf259b7700876e11608eebdf69e9d6667435673dbe4e0",
        "mosaicml/llm-foundry, evaluation data, PIQA validation",
    ),
]  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data-root", type=Path, required=True, help="the folder that holds the files")
    root = parser.parse_args().data_root
    (ROOT / "given").mkdir(parents=True, exist_ok=True)
    for given in FILES:
        path = root / given.file
        if not path.exists():
            sys.exit(f"given: {path} is not there; it is from {given.origin}")
        data = path.read_bytes()
        if sha256(data).hexdigest() != given.sha256:
            sys.exit(f"given: {path} is another file than the one that the results were made with")
        write_bytes(ROOT / "given" / given.file, data)
        print(f"{given.file:<22}{given.origin}")


if __name__ == "__main__":
    main()

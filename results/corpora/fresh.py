"""Documents that no result before s1 was measured on, in a fixed random order, and texts cut to a number of tokens."""

from __future__ import annotations

import json
import random
import shutil
import subprocess
import sys
from functools import cache
from typing import Any

from common import ROOT, split
from prepare import collect
from transformers import AutoTokenizer

from samplewise.data import Document, deduplicate

SCIENCE = ["scipy", "statsmodels", "sympy"]
ROWS_HELD_OUT = 0.1
"""The share of the rows of Dolly that r5 and r7 were measured on (results/corpora/instructions.py)."""


def samplewise(*arguments: str) -> None:
    """Run the command line."""
    subprocess.run([sys.executable, "-m", "samplewise", *arguments], check=True)


def documents(packages: list[str]) -> list[Document]:
    """Documents of some packages, shuffled, none held out before; the first folder of `source` is the package."""
    folder = ROOT / "_fresh"
    collect(packages, folder)
    train, _ = split(folder)
    shutil.rmtree(folder)
    random.Random(22).shuffle(train)
    return train


def parts(found: list[Any], **sizes: int) -> dict[str, list[Any]]:
    """So many of each name, in order; what is left is `train`. Exits where less than a third is left."""
    if 3 * sum(sizes.values()) > 2 * len(found):
        sys.exit(f"corpora: {len(found)} documents are too few for {sizes}")
    result, at = {}, 0
    for name, size in sizes.items():
        result[name], at = found[at : at + size], at + size
    return result | {"train": found[at:]}


def science() -> dict[str, list[Document]]:
    """The documents of s2, s4 and s5: each is held out, or a development document, for one of them at most."""
    return parts(documents(SCIENCE), held_2=200, held_4=150, development_2=50, development_4=50)


def rows() -> dict[str, list[dict[str, str]]]:
    """Rows of Dolly that were trained on at most, from build/results/given."""
    given = json.loads((ROOT / "given/dolly_3k.json").read_text())
    found = [{key: row.get(key) or "" for key in ("instruction", "input", "output")} for row in given]
    found = [row for row in found if row["output"].strip()]
    random.Random(0).shuffle(found)  # as instructions.py
    found = found[round(ROWS_HELD_OUT * len(found)) :]
    random.Random(22).shuffle(found)
    return parts(found, held_out=200, development=60)


def apart(texts: list[str], *others: list[str]) -> list[str]:
    """The texts that have no copy, near ones included, in the others or before them."""
    known = [Document(text, "others", row) for row, text in enumerate(text for other in others for text in other)]
    kept = deduplicate([*known, *(Document(text, "texts", row) for row, text in enumerate(texts))]).kept
    return [each.text for each in kept if each.source == "texts"]


@cache
def tokenizer() -> Any:
    """The tokenizer of all small models."""
    return AutoTokenizer.from_pretrained(ROOT / "bpe")


def up_to(texts: list[str], tokens: int) -> list[str]:
    """The first texts that have at most so many predicted tokens together."""
    kept, total = [], 0
    for text in texts:
        total += len(tokenizer()(text, add_special_tokens=False)["input_ids"])
        if total > tokens:
            break
        kept.append(text)
    else:
        sys.exit(f"corpora: {len(texts)} texts have {total:,} tokens, fewer than {tokens:,}")
    return kept

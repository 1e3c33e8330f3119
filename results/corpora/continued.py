"""s4 and s5: the science that a model of documentation is continued on, with losses of its start; old and other text.

    python results/corpora/continued.py

Needs build/results/small/model and build/results/given.
"""

from __future__ import annotations

import json
import math
import random
import shutil

from common import HELD_OUT, ROOT, opening, write_texts
from fresh import documents, samplewise, science, up_to
from structured import openings

from samplewise.core.checkpoint import write_bytes
from samplewise.data import Document, deduplicate, read_documents, split_documents

FOLDER = ROOT / "s4"
OPENING = 6000
TOKENS = 500_000


def train_text(found: list[Document]) -> None:
    """The training text, a folder for each package."""
    texts = [opening(each.text, OPENING) for each in found]
    packages = [each.source.split("/")[0] for each in found]
    kept = up_to(texts, TOKENS)
    for name in sorted(set(packages)):
        own = [text for text, package in zip(kept, packages, strict=False) if package == name]
        write_texts(FOLDER / f"science/{name}/texts.jsonl", own)


def permuted() -> None:
    """Every window, with the weight that `flow()` would give to another one."""
    scores, out = f"{FOLDER}/scores", FOLDER / "permuted.jsonl"
    given = ["--model", f"{ROOT}/small/model", "--data", f"{FOLDER}/science", "--max-length", "128"]
    samplewise("score", *given, "--out", scores)
    samplewise("select", scores, "--above", "0", "--out", str(out))
    records = [json.loads(line) for line in out.read_text(encoding="utf-8").splitlines()]
    losses = [record["loss"] for record in records]
    tau = sorted(losses)[len(losses) // 2]
    weights = [math.exp(-loss / tau) for loss in losses]
    random.Random(0).shuffle(weights)
    mean = sum(weights) / len(weights)
    lines = [
        json.dumps(record | {"sample_weight": weight / mean}, ensure_ascii=False) + "\n"
        for record, weight in zip(records, weights, strict=True)
    ]
    write_bytes(out, "".join(lines).encode())


def documentation() -> list[str]:
    """What results/small.yaml holds out and results/base.yaml does not."""
    kept = deduplicate(list(read_documents(ROOT / "docs"))).kept
    _, held = split_documents(kept, 2 * HELD_OUT)
    fresh, _ = split_documents(held, HELD_OUT)
    random.Random(22).shuffle(fresh)
    return [each.text for each in fresh]


def web() -> list[str]:
    """Rows of C4 that r3 and r6 were not measured on."""
    train, _ = split_documents(list(read_documents(ROOT / "given/c4_600.jsonl")), 0.2)
    return [each.text for each in train if each.row >= 200]


def main() -> None:
    shutil.rmtree(FOLDER, ignore_errors=True)
    found = science()
    train_text(found["train"])
    write_texts(FOLDER / "held_out.jsonl", [each.text for each in found["held_4"]])
    write_texts(FOLDER / "development.jsonl", [each.text for each in found["development_4"]])
    write_texts(FOLDER / "documentation.jsonl", documentation())
    write_texts(FOLDER / "web.jsonl", web())
    networks = documents(["twisted"])
    write_texts(FOLDER / "networks.jsonl", [each.text for each in networks if each.row >= 200])
    astronomy, _ = openings(["astropy"])
    random.Random(0).shuffle(astronomy)
    write_texts(FOLDER / "astronomy.jsonl", astronomy[:80])  # r4 tuned on these, and was measured on none
    permuted()


if __name__ == "__main__":
    main()

"""s1: a mixture with corrupted text and much that is not of the target's kind, and 8, 20 or 80 documents of the target.

    python results/corpora/target.py

Needs build/results/small/model and build/results/scorer/model. The held-out documents were in r4's mixture at most.
"""

from __future__ import annotations

import json
import random
import shutil
from pathlib import Path

from common import ROOT, write_texts
from fresh import samplewise, up_to
from structured import openings

from samplewise.core.checkpoint import write_bytes
from samplewise.data import Document, document_id
from samplewise.evidence.probes.corruptions import with_corruptions

FOLDER = ROOT / "s1"
EPOCHS = {8: 12, 20: 6, 80: 2}
"""Of tuning on so many documents."""
TOKENS = 400_000
"""Of the mixture, its corruptions included."""
TIMES = (4, 16)
"""Weights of the 20 documents within the mixture, in a corpus for each."""
KEEP = "top_k(share=0.25)"


def of_the_target() -> tuple[list[str], list[str]]:
    """(documents to have, documents of its kind for the mixture); held-out and development ones are written."""
    found, held = openings(["astropy"])
    random.Random(0).shuffle(found)  # as r4: the first 80 it tuned on, the next 80 and `held` it was measured on
    write_texts(FOLDER / "held_out.jsonl", found[160:250])
    write_texts(FOLDER / "development.jsonl", found[250:280])
    return found[:80], held + found[80:160] + found[280:]


def mixture(own_kind: list[str]) -> list[str]:
    """The texts; labels.json says of each whether it is of another package, or corrupted."""
    others, _ = openings(["scipy", "sympy", "statsmodels", "twisted", "sphinx"])
    texts = [(text, "another package") for text in others] + [(text, "") for text in own_kind]
    random.Random(1).shuffle(texts)
    documents = [Document(text, "texts.jsonl", row) for row, (text, _) in enumerate(texts)]
    corrupted, kinds = with_corruptions(documents, 0.2, 0)
    kept = up_to([document.text for document in corrupted], TOKENS)
    named = [kinds.get(document_id("texts.jsonl", row)) or texts[row][1] for row in range(len(kept))]
    labels = {str(row): name for row, name in enumerate(named) if name}
    write_bytes(FOLDER / "labels.json", json.dumps({"rows": labels}).encode())
    print(f"mixture    {len(kept):,} documents, {len(kept) - len(labels):,} of them of the target's kind and clean")
    return kept


def weighted(texts: list[str], few: list[str]) -> None:
    """The mixture with the documents of the target in it, these at some times the weight of the others."""
    for times in TIMES:
        records = [{"text": text, "sample_weight": 1} for text in texts]
        records += [{"text": text, "sample_weight": times} for text in few]
        lines = (json.dumps(record, ensure_ascii=False) + "\n" for record in records)
        write_bytes(FOLDER / f"times-{times}.jsonl", "".join(lines).encode())


def tune(model: str, few: Path, output: str, epochs: int) -> None:
    """Train a model on the documents of the target alone."""
    samplewise(
        "train", "results/tuned.yaml", f"model={ROOT}/{model}/model", f"data.path={few}", f"output={FOLDER}/{output}",
        f"training.num_train_epochs={epochs}",
    )  # fmt: skip


def select(corpus: Path, few: Path) -> None:
    """A quarter of the windows by CoLoR, by DSIR, and at random."""
    scores = f"{FOLDER}/scores"
    given = ["--data", str(corpus), "--out", scores, "--max-length", "128"]
    samplewise("score", "--model", f"{ROOT}/scorer/model", *given)
    samplewise("score", "--model", f"{FOLDER}/conditional-20/model", "--as", "conditional", *given[:4])
    samplewise("importance", scores, "--target", str(few), "--as", "like_target")
    by = {"color": "loss - conditional", "dsir": "like_target"}
    for name, key in by.items():
        more = ["--control", f"{FOLDER}/random.jsonl"] if name == "color" else []
        samplewise("select", scores, "--by", key, "--rule", KEEP, "--out", f"{FOLDER}/{name}.jsonl", *more)


def main() -> None:
    shutil.rmtree(FOLDER, ignore_errors=True)
    target, own_kind = of_the_target()
    texts = mixture(own_kind)
    for count, epochs in EPOCHS.items():
        few = FOLDER / f"few-{count}"
        write_texts(few / "texts.jsonl", target[:count])
        write_texts(FOLDER / f"with-{count}/texts.jsonl", texts + target[:count])
        tune("small", few, f"reference-{count}", epochs)
    tune("scorer", FOLDER / "few-20", "conditional-20", EPOCHS[20])
    select(FOLDER / "with-20", FOLDER / "few-20")
    weighted(texts, target[:20])


if __name__ == "__main__":
    main()

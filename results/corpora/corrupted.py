"""s3: text and answers of which 0, 20 or 40% are corrupted, and selections by losses, of a share found without labels.

    python results/corpora/corrupted.py

Needs build/results/small/model, build/results/scorer/model and build/results/given. The share that is left out is that
of junk (`samplewise.corpus.junk`), as the report page finds it in the corpus itself.
"""

from __future__ import annotations

import json
import random
import shutil
from pathlib import Path

from common import ROOT, opening, write_texts
from fresh import documents, parts, rows, samplewise, up_to
from instructions import write_rows

from samplewise.core.checkpoint import write_bytes
from samplewise.corpus.junk import BORDER, judge_texts
from samplewise.data import Document, document_id
from samplewise.evidence.probes.corruptions import with_corruptions

FOLDER = ROOT / "s3"
OPENING = 1500
TOKENS = 60_000
"""Of the clean text."""
JUDGED = 600
"""Characters of a text that the report page sees."""
LEAST = 0.01
"""The share that is left out where the page finds less."""
DOCUMENTS = ["--unit", "document"]


def junk_share(texts: list[str], name: str) -> float:
    """The share of junk, as the report page finds it; kept in share-<name>.json."""
    score = judge_texts([text[:JUDGED] for text in texts]).score
    share = round(float((score >= BORDER).mean()), 3)
    write_bytes(FOLDER / f"share-{name}.json", json.dumps({"share": share}).encode())
    print(f"{name:<8}{share:.1%} junk")
    return share


def score(name: str, corpus: Path, scorer: str, kind: list[str]) -> str:
    """The folder of losses under a model."""
    out = f"{FOLDER}/scores-{name}-{scorer}"
    samplewise("score", "--model", f"{ROOT}/{scorer}/model", "--data", str(corpus), "--out", out, *kind)
    return out


def select(name: str, corpus: Path, share: float, kind: list[str], how: list[str]) -> None:
    """Without the highest losses under the learner's start, or under the scorer; and as many at random."""
    for scorer, out in (("small", "stored"), ("scorer", "by-scorer")):
        scores = score(name, corpus, scorer, kind)
        more = ["--control", f"{FOLDER}/{name}-random.jsonl"] if scorer == "small" else []
        rule = f"band(drop_top={max(share, LEAST)})"
        samplewise("select", scores, "--rule", rule, *how, *more, "--out", f"{FOLDER}/{name}-{out}.jsonl")


def text(share: int) -> None:
    """One corpus, labels and selections; the clean documents are the same in all."""
    found = parts(documents(["matplotlib", "xarray", "sphinx", "twisted"]), held_out=150, development=40)
    clean = up_to([opening(each.text, OPENING) for each in found["train"]], TOKENS)
    name = f"text-{share}"
    kept = [Document(each, "texts.jsonl", row) for row, each in enumerate(clean)]
    kinds: dict[int, str] = {}
    if share:
        kept, kinds = with_corruptions(kept, share / 100, 0)
    write_texts(FOLDER / name / "texts.jsonl", [each.text for each in kept])
    named = {str(each.row): kinds.get(document_id(each.source, each.row)) for each in kept}
    labels = {row: kind for row, kind in named.items() if kind}
    write_bytes(FOLDER / f"{name}.json", json.dumps({"rows": labels}).encode())
    for part in ("held_out", "development"):
        write_texts(FOLDER / f"{part}.jsonl", [opening(each.text, OPENING) for each in found[part]])
    how = ["--max-length", "128", "--text", str(JUDGED)]
    select(name, FOLDER / name, junk_share([each.text for each in kept], name), how, DOCUMENTS)


def answers(share: int, count: int) -> None:
    """Rows of which a share has the answer of another row, or its own with the words in random order."""
    found, name, draw = rows(), f"rows-{share}", random.Random(0)
    train = found["train"][:count]
    chosen = draw.sample(range(count), count * share // 100)
    swapped, shuffled = chosen[: len(chosen) // 2], chosen[len(chosen) // 2 :]
    outputs = [train[i]["output"] for i in swapped]
    for place, i in enumerate(swapped):
        train[i]["output"] = outputs[place - 1]
    for i in shuffled:
        words = train[i]["output"].split()
        draw.shuffle(words)
        train[i]["output"] = " ".join(words)
    labels = {str(i): "another's response" for i in swapped} | {str(i): "shuffled words" for i in shuffled}
    write_bytes(FOLDER / f"{name}.json", json.dumps({"rows": labels}).encode())
    write_rows(FOLDER / f"{name}.jsonl", train)
    for part in ("held_out", "development"):
        write_rows(FOLDER / f"rows-{part}.jsonl", found[part])
    kind = ["--kind", "instructions", "--template", "plain", "--max-length", "256"]
    share_found = junk_share([row["output"] for row in train], name)
    select(name, FOLDER / f"{name}.jsonl", share_found, kind, ["--by", "completion_loss"])


def main() -> None:
    shutil.rmtree(FOLDER, ignore_errors=True)
    for share in (0, 20, 40):
        text(share)
    answers(40, 900)


if __name__ == "__main__":
    main()

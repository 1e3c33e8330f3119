"""What every result starts from: the corpora, the tokenizer, and the random model that `results/base.yaml` trains.

    python results/corpora/prepare.py

Everything goes to build/results, relative to the current folder; what is there already is made again.
"""

from __future__ import annotations

import shutil
from pathlib import Path

from packages import build
from transformers import AutoTokenizer

from samplewise.data import read_documents
from samplewise.evidence.initial_model import random_model, train_tokenizer

ROOT = Path("build/results")
DOCS = ["django", "celery", "networkx", "numpy", "pandas", "scikit-learn"]
"""The documentation corpus; the other packages are domains that nothing is trained on, or corpora of their own."""
LLAMA = {
    "model_type": "llama", "hidden_size": 256, "intermediate_size": 704, "num_hidden_layers": 8,
    "num_attention_heads": 4, "num_key_value_heads": 4, "max_position_embeddings": 512, "tie_word_embeddings": True,
}  # fmt: skip


def collect(packages: list[str], folder: Path) -> None:
    """A corpus of several packages: a folder with one below it for each, so that documents are grouped by package."""
    shutil.rmtree(folder, ignore_errors=True)
    for name in packages:
        shutil.copytree(ROOT / "packages" / name, folder / name)


def main() -> None:
    build(ROOT / "packages", ROOT / "archives")
    collect(DOCS, ROOT / "docs")
    collect(["scipy", "sympy", "statsmodels"], ROOT / "science")
    train_tokenizer(read_documents(ROOT / "docs"), 4096, ROOT / "bpe")
    tokenizer = AutoTokenizer.from_pretrained(ROOT / "bpe")
    model = random_model(LLAMA, tokenizer, 0)
    model.save_pretrained(ROOT / "base-random")
    tokenizer.save_pretrained(ROOT / "base-random")
    print(f"base-random {sum(p.numel() for p in model.parameters()) / 1e6:.2f} M parameters")


if __name__ == "__main__":
    main()

"""What the corpora of the results share: the split of the documentation, short documents, JSONL files."""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path

from samplewise.core.checkpoint import write_bytes
from samplewise.data import Document, deduplicate, read_documents, split_documents

ROOT = Path("build/results")
HELD_OUT = 0.12
"""The share that results/base.yaml and every plan on the documentation hold out."""


def split(corpus: Path) -> tuple[list[Document], list[Document]]:
    """(training, held out) documents of a corpus, as `samplewise train` and `compare` split them."""
    return split_documents(deduplicate(list(read_documents(corpus))).kept, HELD_OUT)


def opening(text: str, characters: int) -> str:
    """The first paragraphs of a text, about so many characters; at least one paragraph, cut where it is longer."""
    kept = ""
    for paragraph in text.split("\n\n"):
        if kept and len(kept) + len(paragraph) > characters:
            break
        kept += ("\n\n" if kept else "") + paragraph
    return kept[:characters]


def write_texts(path: Path, texts: Iterable[str]) -> None:
    """One record a text, in the field `text`."""
    path.parent.mkdir(parents=True, exist_ok=True)
    write_bytes(path, "".join(json.dumps({"text": text}, ensure_ascii=False) + "\n" for text in texts).encode())

"""A target and a corpus with much else in it, from the documentation that the demo fetches: sections about geography.

    python examples/target_domain.py              # writes demo/target/{few,corpus,held_out}.jsonl

20 sections are what somebody has of the target. The corpus has these, other sections about it, and other parts of the
documentation. What is held out is of other files.
"""

import json
import random
import sys
from collections.abc import Sequence

from demo_fetch import DEMO, DOCS, fetch_all
from documentation_rows import cut, plain, sections

from samplewise.core.checkpoint import write_bytes
from samplewise.data import read_documents

TARGET = "ref/contrib/gis/"
HELD_OUT = ("gdal.txt", "geos.txt", "geoquerysets.txt")
FEW, SHORTEST, TEXTS = 20, 300, 2000
"""Sections of the target to have; characters of the shortest section; sections of the corpus."""


def write(name: str, texts: Sequence[str]) -> None:
    path = DEMO / "target" / f"{name}.jsonl"
    path.parent.mkdir(exist_ok=True)
    write_bytes(path, "".join(json.dumps({"text": text}, ensure_ascii=False) + "\n" for text in texts).encode())
    print(f"{name:<10} {len(texts):,} sections: {path}")


def main() -> None:
    fetch_all()
    target, held_out, others = [], [], []
    for document in read_documents(DOCS):
        texts = [text for each in sections(document.text) if len(text := cut(plain(each.text))) >= SHORTEST]
        of_target = document.source.startswith(TARGET)
        place = held_out if of_target and document.source.endswith(HELD_OUT) else target if of_target else others
        place += texts
    draw = random.Random(0)
    for texts in (target, held_out, others):
        draw.shuffle(texts)
    corpus = target + others[: TEXTS - len(target)]
    draw.shuffle(corpus)
    write("few", target[:FEW])
    write("corpus", corpus)
    write("held_out", held_out)
    print(f"           of the corpus {len(target):,} sections are about the target")


if __name__ == "__main__":
    sys.exit(main())

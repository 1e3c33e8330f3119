"""s4 with a real model: narrow instructions, questions about one part of one documentation.

    python results/corpora/narrow.py

Needs examples/documentation_rows.py.
"""

from __future__ import annotations

import json
import random
from pathlib import Path

from common import ROOT

from samplewise.core.checkpoint import write_bytes

ROWS = 400
PART = "topics"


def main() -> None:
    lines = Path("demo/django-instructions.jsonl").read_text(encoding="utf-8").splitlines(keepends=True)
    own = [line for line in lines if json.loads(line)["group"] == PART]
    random.Random(0).shuffle(own)
    write_bytes(ROOT / "s4/narrow.jsonl", "".join(own[:ROWS]).encode())
    print(f"rows       {ROWS:,} of {len(own):,} about {PART}")


if __name__ == "__main__":
    main()

"""What results/ holds: pages, each a folder with a README.md, and their parts, each a folder with one JSON file."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from samplewise.core.errors import SamplewiseError

ROOT = Path(__file__).parents[2]
RESULTS = ROOT / "results"
PLAN, PROBE, COST = "results.json", "probe.json", "cost.json"
KINDS = (PLAN, PROBE, COST)


@dataclass(frozen=True)
class Part:
    """name: "" where the page's folder itself holds the file, else the folder below it. kind: the file's name."""

    folder: Path
    name: str
    kind: str

    def read(self) -> dict[str, Any]:
        """What the file says."""
        return json.loads((self.folder / self.kind).read_text(encoding="utf-8"))

    def marker(self, what: str) -> str:
        """What stands in the comments round this part's facts or table."""
        return f"{what} {self.name}".rstrip()


def parts(page: Path) -> list[Part]:
    """Of a page: its own folder first, then those below it by name."""
    below = sorted(folder for folder in page.iterdir() if folder.is_dir())
    return [
        Part(folder, "" if folder == page else folder.name, kind)
        for folder in (page, *below)
        for kind in KINDS
        if (folder / kind).exists()
    ]


def pages(root: Path) -> list[Path]:
    """The folders of `root` that hold results, by name."""
    return [folder for folder in sorted(root.iterdir()) if folder.is_dir() and parts(folder)] if root.exists() else []


def between(text: str, marker: str, write: Callable[[], str], place: Path) -> str:
    """The text with what `write` gives between the comments `<!-- marker -->` and `<!-- /marker -->`.

    Errors: SamplewiseError where the two are not there once each, in this order.

    >>> between("a <!-- x -->old<!-- /x --> b", "x", lambda: "new", Path("p"))
    'a <!-- x -->\\n\\nnew\\n\\n<!-- /x --> b'
    """
    first, last = f"<!-- {marker} -->", f"<!-- /{marker} -->"
    if (text.count(first), text.count(last)) != (1, 1) or text.index(first) > text.index(last):
        raise SamplewiseError(
            str(place),
            expected=f"{first} and {last} once each",
            got="not so",
            remedy="Write both where it shall stand.",
        )
    head, rest = text.split(first)
    return f"{head}{first}\n\n{write()}\n\n{last}{rest.split(last)[1]}"

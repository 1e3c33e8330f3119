"""One row for every comparison: what was asked, of what, and what was found."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from result_pages import arms, facts
from result_pages.markdown import span, table
from result_pages.parts import PLAN, Part, pages, parts

Results = Mapping[str, Any]

HEAD = ["question", "model", "data", "budget", "seeds", "found", "the lowest arm's difference, nats/token"]
EMPTY = "No result is here yet."


def summary(root: Path) -> str:
    """The table over all comparisons in `root`, then the other pages."""
    rows, others = [], []
    for page in pages(root):
        own = parts(page)
        compared = [part for part in own if part.kind == PLAN]
        rows += [_row(page, part) for part in compared]
        if not compared:
            others.append(_link(page, ""))
    told = [table(HEAD, rows)] if rows else []
    if others:
        told.append(f"Beside them: {'; '.join(others)}.")
    return "\n\n".join(told) or EMPTY


def title(page: Path) -> str:
    """The first heading of its README.md."""
    lines = (page / "README.md").read_text(encoding="utf-8").splitlines()
    return next(line.removeprefix("# ") for line in lines if line.startswith("# "))


def _link(page: Path, name: str) -> str:
    return f"[{title(page)}{f' ({name})' if name else ''}]({page.name}/README.md)"


def _row(page: Path, part: Part) -> list[str]:
    results = part.read()
    return [_link(page, part.name), *facts.cells(part.folder, results), found(results), lowest(results)]


def found(results: Results) -> str:
    """The verdicts of the arms counted, and the control's other learning rates that beat it.

    >>> found({"arms": [{"name": "a", "role": "arm"}], "verdicts": {"a": {"verdict": "none"}}, "control": "uniform"})
    'of 1 arm none is shown to differ from uniform'
    """
    own = [arm["name"] for arm in results["arms"] if arm["role"] == "arm" and arm["name"] in results["verdicts"]]
    count = Counter(results["verdicts"][name]["verdict"] for name in own)
    of = f"of {len(own)} arm{'s' * (len(own) != 1)}"
    rates = [arm["name"] for arm in results["arms"] if arm["role"] == "rate"]
    better = [name for name in rates if results["verdicts"].get(name, {}).get("verdict") == "better"]
    beside = f"; better too: {', '.join(better)}" if better else ""
    if count["none"] == len(own):
        return f"{of} none is shown to differ from {results['control']}{beside}"
    parts = {"better": count["better"], "worse": count["worse"], "not distinguished": count["none"]}
    return f"{of} {', '.join(f'{number} {word}' for word, number in parts.items())}{beside}"


def lowest(results: Results) -> str:
    """The arm of the lowest difference, its interval, and whether a random selection of its size does as well."""
    own = {arm["name"] for arm in results["arms"] if arm["role"] == "arm"}
    rows = [row for row in (arms.difference(results, name) for name in sorted(own)) if row is not None]
    if not rows:
        return "–"
    row = min(rows, key=lambda row: row["mean"])
    random = arms.difference(results, row["arm"], role="random")
    beside = f"; − random of its size: {span(random)}" if random is not None else ""
    return f"{row['arm']}: {span(row)}{beside}"

"""The pages as they should be, and which of them are not so."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from result_pages import arms, cost, facts, probe
from result_pages.parts import COST, PLAN, PROBE, Part, between, pages, parts
from result_pages.summary import summary
from samplewise.core.checkpoint import write_bytes


def facts_of(part: Part) -> str:
    """The line of facts of one part."""
    found = part.read()
    return {PLAN: lambda: facts.facts_line(part.folder, found), PROBE: lambda: probe.facts_line(found),
            COST: lambda: cost.facts_line(found)}[part.kind]()  # fmt: skip


def table_of(part: Part) -> str:
    """The tables of one part."""
    return {PLAN: arms.tables, PROBE: probe.tables, COST: cost.tables}[part.kind](part.read())


def written(root: Path) -> Iterator[tuple[Path, str]]:
    """Every page under `root` and its README.md, with the text that it should have."""
    for page in pages(root):
        path = page / "README.md"
        text = path.read_text(encoding="utf-8")
        for part in parts(page):
            text = between(text, part.marker("facts"), lambda part=part: facts_of(part), path)
            text = between(text, part.marker("table"), lambda part=part: table_of(part), path)
        yield path, text
    path = root / "README.md"
    yield path, between(path.read_text(encoding="utf-8"), "summary", lambda: summary(root), path)


def outdated(root: Path) -> list[Path]:
    """Pages that are not what would be written."""
    return [path for path, text in written(root) if path.read_text(encoding="utf-8") != text]


def write(root: Path) -> list[Path]:
    """Write those that are not; which they were."""
    changed = [(path, text) for path, text in written(root) if path.read_text(encoding="utf-8") != text]
    for path, text in changed:
        write_bytes(path, text.encode())
    return [path for path, _ in changed]

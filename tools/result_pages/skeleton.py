"""A page to write on: its headings, and for each part the markers, pictures and command that belong under them."""

from __future__ import annotations

from pathlib import Path

from result_pages.parts import PLAN, PROBE
from samplewise.core.checkpoint import write_bytes
from samplewise.core.errors import SamplewiseError

SECTIONS = ("Question", "Setup", "Result", "What it means", "Limits", "How to run it again")


def put_on_page(root: Path, name: str, kind: str, figures: list[str]) -> None:
    """Headings for a page that is not there, and markers for a part that its page has none for yet."""
    page, _, part = name.partition("/")
    path = root / page / "README.md"
    text = path.read_text(encoding="utf-8") if path.exists() else _headings(page)
    if f"<!-- {f'table {part}'.rstrip()} -->" in text:
        return
    again = {PLAN: f"samplewise compare results/{name}/plan.yaml", PROBE: f"samplewise probe results/{name}/probe.yaml"}
    drawn = [f"![{Path(file).stem.removeprefix('fig-')}]({f'{part}/' if part else ''}{file})" for file in figures]
    title = [f"### {part}"] if part else []
    added = {
        "Setup": [*title, _markers("facts", part)],
        "Result": [*title, _markers("table", part), *drawn],
        "How to run it again": [f"```bash\n{again.get(kind, 'python bench/rules.py')}\n```"],
    }
    for heading, blocks in added.items():
        text = _added(text, heading, "\n\n".join(blocks), path)
    write_bytes(path, text.encode())


def _headings(page: str) -> str:
    return "\n\n".join([f"# {page}", *(f"## {section}" for section in SECTIONS)]) + "\n"


def _added(text: str, heading: str, block: str, path: Path) -> str:
    """The text with a block at the end of the section under a heading."""
    head, found, rest = text.partition(f"\n## {heading}\n")
    if not found:
        raise SamplewiseError(
            str(path), expected=f"a heading ## {heading}", got="none", remedy=f"It has: {', '.join(SECTIONS)}."
        )
    own, following, below = rest.partition("\n## ")
    body = "\n\n".join(each for each in (own.strip("\n"), block) if each)
    return f"{head}{found}\n{body}\n{following}{below}"


def _markers(what: str, part: str) -> str:
    marker = f"{what} {part}".rstrip()
    return f"<!-- {marker} -->\n<!-- /{marker} -->"

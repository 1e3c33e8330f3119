"""What the site has beyond docs/: pages and files elsewhere in the repository that a page links to, and the API.

A hook of mkdocs. A link that leaves docs/ works on the hosting site and here: results/, examples/ and the changelog are
brought in under their own paths, programs and YAML as pages with their text.
"""

from __future__ import annotations

import posixpath
import re
from pathlib import Path
from typing import Any

from mkdocs.exceptions import PluginError
from mkdocs.structure.files import File, Files

ROOT = Path(__file__).parents[1]
LINK = re.compile(r"(!?\[(?:[^\[\]]|\[[^\]]*\])*\]\()([^()\s]+)(\))")
CODE = re.compile(r"```.*?```|`[^`\n]*`", re.DOTALL)
AS_TEXT = {
    ".py": "python",
    ".yaml": "yaml",
    ".yml": "yaml",
    ".toml": "toml",
    ".txt": "text",
    ".json": "json",
    "": "text",
}
INDEX = "index.md"


def on_files(files: Files, config: Any) -> Files:
    """Add every file that pages link to, and those that these link to, and a page for each public module."""
    todo = [f"docs/{file.src_uri}" for file in files.documentation_pages()] + [
        "README.md",
        "CHANGELOG.md",
        "results/README.md",
    ]
    seen = set(todo)
    while todo:
        path = todo.pop()
        text = (ROOT / path).read_text(encoding="utf-8") if path.endswith(".md") else ""
        if files.get_file_from_path(uri := site_path(path)) is None:
            files.append(_file(path, uri, config))
        for target in targets(text):
            found = repository_path(path, target)
            if found not in seen and not found.startswith("docs/"):
                seen.add(found)
                todo.append(found)
    for module, names in public_names().items():
        files.append(File.generated(config, f"api/{module}.md", content=_module(module, names)))
    return files


def on_page_markdown(markdown: str, page: Any, files: Files, **unused: Any) -> str:
    """Links between files of the repository become links between pages of the site."""
    if page.file.src_uri.startswith("api/samplewise"):
        return markdown
    own = repository_of(page.file.src_uri)

    def link(match: re.Match[str]) -> str:
        target, _, anchor = match[2].partition("#")
        if not target or "://" in target:
            return match[0]
        there = posixpath.relpath(site_path(repository_path(own, target)), posixpath.dirname(page.file.src_uri) or ".")
        return f"{match[1]}{there}{'#' + anchor if anchor else ''}{match[3]}"

    markdown = outside_code(markdown, lambda text: LINK.sub(link, text))
    return _linked_names(markdown) if page.file.src_uri == "api/README.md" else markdown


def targets(text: str) -> list[str]:
    """What a page links to in the repository, without anchors."""
    found: list[str] = []
    outside_code(text, lambda part: found.extend(match[2] for match in LINK.finditer(part)) or part)
    return [name for each in found if "://" not in each and (name := each.partition("#")[0])]


def outside_code(text: str, change: Any) -> str:
    """The text with `change` made to all of it but code."""
    kept: list[str] = []

    def keep(match: re.Match[str]) -> str:
        kept.append(match[0])
        return f"\x00{len(kept) - 1}\x00"

    return re.sub("\x00(\\d+)\x00", lambda match: kept[int(match[1])], change(CODE.sub(keep, text)))


def repository_path(page: str, target: str) -> str:
    """The file that a link of a page means; of a folder its README."""
    path = posixpath.normpath(posixpath.join(posixpath.dirname(page), target))
    if (ROOT / path).is_dir():
        path += "/README.md"
    if not (ROOT / path).is_file():
        raise PluginError(f"{page} links to {target}, which is not there")
    return path


def site_path(path: str) -> str:
    """Where a file of the repository is on the site."""
    if path.startswith("docs/"):
        return path.removeprefix("docs/")
    if path == "README.md":
        return INDEX
    return path if Path(path).suffix not in AS_TEXT else f"{path}.md"


def repository_of(uri: str) -> str:
    """The file of the repository that a page of the site is."""
    return f"docs/{uri}" if (ROOT / "docs" / uri).is_file() else "README.md" if uri == INDEX else uri


def _file(path: str, uri: str, config: Any) -> File:
    if uri == f"{path}.md":
        kind, text = AS_TEXT[Path(path).suffix], (ROOT / path).read_text(encoding="utf-8")
        return File.generated(config, uri, content=f"# `{path}`\n\n~~~~{kind}\n{text}\n~~~~\n")
    return File.generated(config, uri, abs_src_path=str(ROOT / path))


def public_names() -> dict[str, list[str]]:
    """By module, as docs/api/README.md lists them, which a test compares with the code."""
    page = (ROOT / "docs/api/README.md").read_text(encoding="utf-8")
    sections = re.split(r"^## `([\w.]+)`$", page, flags=re.MULTILINE)
    pairs = zip(sections[1::2], sections[2::2], strict=True)
    return {module: re.findall(r"^\| `(\w+)` \|", text, re.MULTILINE) for module, text in pairs}


def _module(module: str, names: list[str]) -> str:
    """The page of a public module: its names with their docstrings."""
    return f"# `{module}`\n\n" + "\n".join(f"::: {module}.{name}\n" for name in names)


def _linked_names(markdown: str) -> str:
    """The names of the list of public names, as links to their docstrings."""
    out, module = [], ""
    for line in markdown.splitlines():
        if match := re.match(r"## `([\w.]+)`", line):
            module = match[1]
        out.append(re.sub(r"^\| `(\w+)` \|", rf"| [`\1`]({module}.md#{module}.\1) |", line))
    return "\n".join(out)

"""Instruction rows from the Django documentation that the demo fetches: a section's title in its document → its text.

    python examples/documentation_rows.py                 # writes demo/django-instructions.jsonl

The same rows on every machine. Duplicates, exact and near, are left out and counted.
"""

import json
import re
import sys
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

from demo_fetch import DEMO, DOCS, fetch_all

from samplewise.core.checkpoint import write_bytes
from samplewise.data import deduplicate, read_documents, read_instructions
from samplewise.data.sketch import normalize

ROWS = DEMO / "django-instructions.jsonl"
SHORTEST, LONGEST = 160, 1600
"""Characters of an answer: shorter ones say little, longer ones keep their first paragraphs."""


@dataclass(frozen=True)
class Section:
    """titles: from the document's to its own; text: up to the next title, in reStructuredText."""

    titles: tuple[str, ...]
    text: str


def documentation_rows(docs: Path) -> Iterator[dict[str, str]]:
    """Rows of instruction, output and group (the top folder), in the order of the files' names.

    docs: a folder of reStructuredText files (.txt).
    """
    for document in read_documents(docs):
        if document.source.startswith("_"):
            continue
        for section in sections(document.text):
            answer = cut(plain(section.text))
            if len(answer) >= SHORTEST:
                group = document.source.split("/")[0] if "/" in document.source else "top"
                yield {"instruction": question(section.titles), "output": answer, "group": group}


def question(titles: tuple[str, ...]) -> str:
    """What to ask for a section.

    >>> question(("Models", "Fields", "Field options"))
    'In the Django documentation on "Models", under "Fields", what does it say about "Field options"?'
    """
    names = ['"' + plain(title).replace("`", "") + '"' for title in titles]
    under = ", under " + ", ".join(names[1:-1]) if len(names) > 2 else ""
    if len(names) == 1:
        return f"What does the Django documentation say about {names[0]}?"
    return f"In the Django documentation on {names[0]}{under}, what does it say about {names[-1]}?"


def sections(text: str) -> Iterator[Section]:
    """The sections of a document. The character that a title is underlined with (and overlined) tells its depth."""
    lines = text.splitlines()
    starts = [i for i in range(len(lines) - 1) if _is_title(lines, i)]
    styles: list[str] = []
    titles: list[str] = []
    for start, end in pairwise([*starts, len(lines)]):
        over = start > 0 and lines[start - 1] == lines[start + 1]
        style = lines[start + 1][0] + ("over" if over else "")
        if style not in styles:
            styles.append(style)
        depth = styles.index(style)
        titles = [*titles[:depth], lines[start].strip()]
        stop = end - 1 if end < len(lines) and lines[end - 1] == lines[end + 1] else end  # the next one's overline
        yield Section(tuple(titles), "\n".join(lines[start + 2 : stop]))


def _is_title(lines: list[str], i: int) -> bool:
    line, below = lines[i], lines[i + 1]
    ruled = re.fullmatch(r"([=\-~^\"'`*+#])\1{2,}", below) is not None
    return bool(line.strip()) and ruled and len(below) >= len(line.rstrip()) and not re.fullmatch(r"(\W)\1*", line)


_DROPPED = re.compile(
    r"^ *\.\. _[^\n]*:[^\n]*\n|^\.\. (\|[^\n]*|(index|module|currentmodule|toctree|image|figure|contents|highlight"
    r"|versionadded|versionchanged|deprecated|include|only|default-domain|rubric|snippet|setting"
    r"|fieldlookup|templatefilter|templatetag|django-admin)::[^\n]*)\n((\s*\n)*[ \t]+[^\n]*\n)*",
    re.MULTILINE,
)
_CODE = re.compile(r"^( *)\.\. (code-block|console|sourcecode|literalinclude)::[^\n]*\n( +:[^\n]*\n)*", re.MULTILINE)
_DEFINED = re.compile(r"^( *)\.\. (?:[\w-]+:)?(?:\w+)::[ ]+([^\n]+)\n( +:[^\n]*\n)*", re.MULTILINE)
_ADMONITION = re.compile(r"^( *)\.\. (\w+)::[ ]*\n", re.MULTILINE)
_ROLE = re.compile(r":[\w:+-]+:`([^`]*)`")
_LINK = re.compile(r"`([^`<]+?)\s*<[^`>]+>`_{1,2}")
_REFERENCE = re.compile(r"`([^`]+)`_{1,2}|(?<![\w\0])([A-Za-z]\w*?)__(?=\W)")


def plain(text: str) -> str:
    """reStructuredText without what only its tools read; code, lists and names of things stay.

    >>> plain("See :class:`~django.db.models.Model` and `the site <https://x.org>`_, or ``save()``.\\n\\n.. _x:")
    'See Model and the site, or `save()`.'
    """
    text = _DROPPED.sub("", text + "\n")
    text = _CODE.sub("", text)
    text = _ADMONITION.sub(lambda found: f"{found[1]}{found[2].capitalize()}:\n", text)
    text = _DEFINED.sub(r"\1\2\n", text)
    text = re.sub(r"^\.\.( [^\n]*)?\n((\s*\n)*[ \t]+[^\n]*\n)*|^__ [^\n]*\n", "", text, flags=re.MULTILINE)
    text = _ROLE.sub(lambda found: _shown(found[1]), text)
    text = _LINK.sub(r"\1", text)
    text = text.replace("``", "\0").replace("\\ ", "")
    text = _REFERENCE.sub(lambda found: found[1] or found[2], text)
    text = text.replace("\0", "`").replace("::\n", ":\n")
    return re.sub(r"\n\s*\n+(?=[^\n])", "\n\n", re.sub(r"[ \t]+$", "", text, flags=re.MULTILINE)).strip("\n")


def _shown(target: str) -> str:
    """What a role shows of its target: its title, or the last part of a name that starts with ~."""
    if titled := re.fullmatch(r"(.*\S)\s*<[^>]*>", target, re.DOTALL):
        return titled[1]
    return target.rsplit(".", 1)[-1] if target.startswith("~") else target


def cut(text: str) -> str:
    """The first paragraphs of a text, as many as fit into `LONGEST`; nothing where the first is longer."""
    kept = ""
    for paragraph in text.split("\n\n"):
        if len(kept) + len(paragraph) + 2 > LONGEST:
            break
        kept += f"\n\n{paragraph}" if kept else paragraph
    return kept


def unique(rows: list[dict[str, str]]) -> tuple[list[dict[str, str]], Counter[str]]:
    """The rows that repeat no earlier one in its question or its answer, nor nearly as a whole, and the others by why
    they are left out.
    """
    left_out: Counter[str] = Counter()
    seen: set[str] = set()
    distinct = []
    for row in rows:
        repeated = [name for name in ("instruction", "output") if normalize(row[name]) in seen]
        left_out.update(repeated[:1])
        if not repeated:
            distinct.append(row)
            seen.update(normalize(row[name]) for name in ("instruction", "output"))
    found = deduplicate(read_instructions(distinct))
    left_out.update(near=found.near, exact=found.exact)
    return [distinct[conversation.row] for conversation in found.kept], left_out


def main() -> None:
    fetch_all()
    rows = list(documentation_rows(DOCS))
    kept, left_out = unique(rows)
    write_bytes(ROWS, "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in kept).encode())
    groups = ", ".join(f"{name} {count}" for name, count in sorted(Counter(row["group"] for row in kept).items()))
    print(f"sections   {len(rows):,} with {SHORTEST} to {LONGEST} characters of text")
    print(f"left out   as repeated question, answer or whole, or as nearly the same: {dict(left_out)}")
    print(f"rows       {len(kept):,} in {ROWS} ({groups})")


if __name__ == "__main__":
    sys.exit(main())

"""Docstrings as the site shows them: doctests as code, a line that begins with an argument's name as a list item."""

from __future__ import annotations

import re
from typing import Any

import griffe

NAMED = re.compile(r"^((?:[a-z_]\w*|[A-Z]\w+)(?:, [a-z_]\w*)*): (?=\S)")
"""`losses: [N] nats/token`, `weight, reference: [N] …`, `Errors: SamplewiseError …`."""


def rendered(text: str) -> str:
    """The markdown of a docstring.

    >>> print(rendered("One line.\\n\\nx: [N] nats,\\nof all.\\ny: more\\n\\n>>> 1 + 1\\n2"))
    One line.
    <BLANKLINE>
    - **x**: [N] nats,
      of all.
    - **y**: more
    <BLANKLINE>
    ```pycon
    >>> 1 + 1
    2
    ```
    """
    blocks = re.split(r"\n\s*\n", text.strip())
    return "\n\n".join(_block(block) for block in _with_their_fences(blocks))


def _with_their_fences(blocks: list[str]) -> list[str]:
    """Blocks put together again where a fence or a doctest runs over an empty line."""
    found: list[str] = []
    for block in blocks:
        if found and found[-1].count("```") % 2:
            found[-1] += "\n\n" + block
        else:
            found.append(block)
    return found


def _block(block: str) -> str:
    if block.lstrip().startswith(">>>"):
        return f"```pycon\n{block}\n```"
    if "```" in block:
        return block
    lines, out, listed = block.splitlines(), [], False
    for line in lines:
        match = NAMED.match(line)
        if match:
            if out and not listed:
                out.append("")
            listed = True
            out.append(f"- **{match[1]}**: {line[match.end() :]}")
        else:
            out.append(f"  {line.strip()}" if listed else line)
    return "\n".join(out)


class Docstrings(griffe.Extension):
    """Renders every docstring of the package once, before mkdocstrings shows it."""

    def on_object(self, *, obj: Any, **unused: Any) -> None:
        """Called by griffe for each module, class, function and attribute."""
        if obj.docstring is not None:
            obj.docstring.value = rendered(obj.docstring.value)

"""Texts of chosen samples, read again from the corpus that was scored."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any

from samplewise.core.columns import WEIGHT
from samplewise.core.errors import SamplewiseError
from samplewise.data.conversation import Conversation
from samplewise.data.read import Document
from samplewise.data.row_shapes import PARTS

OURS = "samplewise_"
"""Before the name of a value of the scores, where the record has a field of that name."""


@dataclass(frozen=True)
class Piece:
    """What is wanted of a document: bytes [start, start + size) of its UTF-8, or all of it (size None).

    values: the sample's row of the scores, as it goes into the output.
    """

    source: str
    row: int
    start: int
    size: int | None
    values: dict[str, Any]


def records_of(
    pieces: Iterable[Piece], documents: Iterable[Document | Conversation], field: str = "text",
    renamed: Counter[str] | None = None,
) -> Iterator[dict[str, Any]]:  # fmt: skip
    """A record of every piece, in one pass: its text, or messages, all other fields of its record, and its values.

    Both come sorted by source and row. field: of the text. Fields of the record keep their names, and a value of the
    same name becomes samplewise_NAME; a sample_weight that a rule gave replaces the record's. renamed: is filled with
    how often that was, by name.
    Errors: SamplewiseError where the corpus no longer has a document, or has a shorter one, than when it was scored.
    """
    renamed = Counter() if renamed is None else renamed
    found = iter(documents)
    here = next(found, None)
    data = b""
    for piece in pieces:
        while here is not None and (here.source, here.row) < (piece.source, piece.row):
            here, data = next(found, None), b""
        if here is None or (here.source, here.row) != (piece.source, piece.row):
            raise changed(piece, "nothing there")
        if isinstance(here, Conversation):
            yield joined(_said(here), _others(here), piece.values, renamed)
            continue
        text = here.text
        if piece.size is not None:
            data = data or here.text.encode()
            end = piece.start + piece.size
            if end > len(data):
                raise changed(piece, f"{len(data)} bytes of text, where {end} were scored")
            text = data[piece.start : end].decode(errors="replace")
        yield joined({field: text}, here.record or {}, piece.values, renamed)


def joined(said: dict[str, Any], record: Any, values: dict[str, Any], renamed: Counter[str]) -> dict[str, Any]:
    """What is written of a sample: `said`, its record's other fields, its values, renamed where they must be."""
    rest = {name: value for name, value in record.items() if name not in said}
    taken = [name for name in values if name in rest or name in said]
    renamed.update(taken)
    own = {f"{OURS}{name}" if name in taken and name != WEIGHT else name: value for name, value in values.items()}
    return {**said, **rest, **own}


def _others(row: Conversation) -> dict[str, Any]:
    """The fields of a row beside those that its messages were made of."""
    made = (*PARTS[row.form], *(("tools",) if row.tools is not None else ()))
    return {name: value for name, value in (row.record or {}).items() if name not in made}


def _said(row: Conversation) -> dict[str, Any]:
    """In the two forms that every trainer of instructions reads, with the weights of messages that have one."""
    if row.plain:
        return {"prompt": row.messages[0].content, "completion": row.messages[1].content}
    tools = {} if row.tools is None else {"tools": row.tools}
    usual = {"assistant": 1.0}
    messages = [
        {**each.for_template(), **({"weight": each.weight} if each.weight != usual.get(each.role, 0.0) else {})}
        for each in row.messages
    ]
    return {"messages": messages, **tools}


def changed(piece: Piece, got: str) -> SamplewiseError:
    """The error for a sample that is not in the corpus as it was."""
    return SamplewiseError(
        f"{piece.source}, record {piece.row}", expected="the corpus as it was scored", got=got,
        remedy="Name the scored corpus with --data, or score again.",
    )  # fmt: skip

"""Texts of chosen samples, read again from the corpus that was scored."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any

from samplewise.core.errors import SamplewiseError
from samplewise.data.conversation import Conversation
from samplewise.data.read import Document


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


def records_of(pieces: Iterable[Piece], documents: Iterable[Document | Conversation]) -> Iterator[dict[str, Any]]:
    """A record of every piece, in one pass: its text, or messages, and its values. Both come sorted by source and row.

    Errors: SamplewiseError where the corpus no longer has a document, or has a shorter one, than when it was scored.
    """
    found = iter(documents)
    here = next(found, None)
    data = b""
    for piece in pieces:
        while here is not None and (here.source, here.row) < (piece.source, piece.row):
            here, data = next(found, None), b""
        if here is None or (here.source, here.row) != (piece.source, piece.row):
            raise changed(piece, "nothing there")
        if isinstance(here, Conversation):
            yield {**_said(here), **piece.values}
            continue
        if piece.size is None:
            yield {"text": here.text, **piece.values}
            continue
        data = data or here.text.encode()
        end = piece.start + piece.size
        if end > len(data):
            raise changed(piece, f"{len(data)} bytes of text, where {end} were scored")
        yield {"text": data[piece.start : end].decode(errors="replace"), **piece.values}


def _said(row: Conversation) -> dict[str, Any]:
    """In the two forms that every trainer of instructions reads."""
    if row.plain:
        return {"prompt": row.messages[0].content, "completion": row.messages[1].content}
    tools = {} if row.tools is None else {"tools": row.tools}
    return {"messages": [message.for_template() for message in row.messages], **tools}


def changed(piece: Piece, got: str) -> SamplewiseError:
    """The error for a sample that is not in the corpus as it was."""
    return SamplewiseError(
        f"{piece.source}, record {piece.row}", expected="the corpus as it was scored", got=got,
        remedy="Name the scored corpus with --data, or score again.",
    )  # fmt: skip

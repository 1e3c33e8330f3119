"""Lines of files, of which none fills the memory: what is longer than the longest record is passed over."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterator
from typing import BinaryIO

from samplewise.data import records

PIECE = 2**20
"""Bytes, or characters, that are read at a time. A line is gathered in place: joining pieces would hold it twice."""


def numbered_lines(file: BinaryIO, number: int = 0) -> Iterator[tuple[int, bytes | bytearray | None]]:
    """(its number from 1 on, the line) of every line that is not blank; None for a line of more than `LONGEST` bytes.

    Lines end with a line feed only, so that U+2028 in a text is no line end. number: of lines before the first.
    """
    while True:
        line = _line(file)
        number += 1
        if line is None or (line and not line.isspace()):
            yield number, line
        elif not line:
            return


def _line(file: BinaryIO) -> bytes | bytearray | None:
    piece = file.readline(PIECE)
    if len(piece) < PIECE or piece.endswith(b"\n"):
        return piece if len(piece) <= records.LONGEST else None
    line = bytearray(piece)
    while len(piece) == PIECE and not piece.endswith(b"\n"):
        piece = file.readline(PIECE)
        if len(line) + len(piece) > records.LONGEST:
            line.clear()
            _pass_over(file, piece)
            return None
        line += piece
    return line


def _pass_over(file: BinaryIO, piece: bytes) -> None:
    while piece and not piece.endswith(b"\n"):
        piece = file.readline(PIECE)


class TooLongLine(csv.Error):
    """A line of a CSV file that would not fit; reading continues after it."""


class TextLines:
    """The lines of a text as csv.reader takes them, with their ends; an iterator that survives what it raises."""

    def __init__(self, text: io.TextIOWrapper) -> None:
        self._text = text

    def __iter__(self) -> TextLines:
        return self

    def __next__(self) -> str:
        line = self._text.readline(PIECE)
        if not line:
            raise StopIteration
        if len(line) == PIECE and line[-1] not in "\r\n":
            line = self._rest(line)
        if len(line) > records.LONGEST:
            raise TooLongLine
        return line

    def _rest(self, piece: str) -> str:
        line, size = [piece], len(piece)
        while piece and piece[-1] not in "\r\n":
            piece = self._text.readline(PIECE)
            size += len(piece)
            if size > records.LONGEST:
                line.clear()
            else:
                line.append(piece)
        if size > records.LONGEST:
            raise TooLongLine
        return "".join(line)

"""A record of a file, and what may be wrong with it.

Damage is a value here, not an exception: a generator that raised could not continue with the next record.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

LONGEST = 2**28
"""Bytes of one record at most (of one file for .json, which cannot be streamed): a bomb must not fill the memory."""


@dataclass(frozen=True)
class Problem:
    """Why a record is no document. reason: a few words to count by; the rest as in `SamplewiseError`."""

    reason: str
    expected: str
    got: str
    remedy: str


Record = str | Mapping[str, object] | Problem


def decode(data: bytes | bytearray) -> str | Problem:
    """UTF-8 with or without a byte-order mark, as it is: line ends are kept.

    >>> decode(b"caf\\xe9").reason
    'bad encoding'
    """
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        return bad_encoding(error)


def bad_encoding(error: UnicodeError) -> Problem:
    """Bytes that are no UTF-8, or a lone surrogate that can never become UTF-8."""
    remedy = "Convert it, for example with iconv -f latin1 -t utf-8, " + skip()
    return Problem("bad encoding", "UTF-8 text", str(error), remedy)


def unfit_text(text: str) -> Problem | None:
    """What keeps a string from being a text: NUL characters, or lone surrogates."""
    if "\0" in text:
        remedy = 'Convert it to UTF-8 text, or skip and count it with on_error="skip".'
        return Problem("binary data", "text", "NUL characters (UTF-16, or no text at all)", remedy)
    try:
        if not text.isascii():
            text.encode()
    except UnicodeEncodeError as error:
        return bad_encoding(error)
    return None


def place_of(source: str, row: int, line: int | None) -> str:
    """The place of a record, for messages."""
    return f"{source}, line {line}" if line is not None else f"{source}, record {row}"


def no_object(value: object) -> Problem:
    """The problem of a record that is JSON but not an object."""
    return Problem(
        "no JSON object", "a JSON object with the text in a field", type(value).__name__, fix_or_skip("record")
    )


def too_long(remedy: str = "") -> Problem:
    """The problem of a record or file that is too long for memory."""
    return Problem("too long", f"at most {LONGEST} bytes", "more", remedy or "Cut it into documents, " + skip())


def fix_or_skip(what: str) -> str:
    """The remedy for a damaged part: fix it, or skip it."""
    return f"Fix the {what}, " + skip()


def skip() -> str:
    """The remedy that works for every record: skip it."""
    return 'or skip and count it with on_error="skip".'

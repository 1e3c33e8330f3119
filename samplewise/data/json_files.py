"""JSON files by what they hold, not by their name: one object a line, a list, one object, or objects in a row.

Many corpora name JSON Lines .json, and many tools write a list to .jsonl. Lines are streamed; all else is parsed whole.
"""

from __future__ import annotations

import io
import json
import re
from collections.abc import Iterator, Mapping
from typing import BinaryIO

from samplewise.data import records
from samplewise.data.lines import numbered_lines
from samplewise.data.records import Problem, Record, decode, fix_or_skip, no_object, too_long

Found = Iterator[tuple[int | None, Record]]
_STREAMED = "Write it as JSON Lines, one object a line, which is streamed."


def read_json_lines(file: BinaryIO, field: object) -> Found:
    """A file named as JSON Lines: what cannot be anything else is read by lines, each damaged one a `Problem`."""
    return _records(file, by_lines=True)


def read_json(file: BinaryIO, field: object) -> Found:
    """A file named .json: a list of objects, one object, or JSON Lines. Damage that leaves no line is one `Problem`."""
    return _records(file, by_lines=False)


def _records(file: BinaryIO, by_lines: bool) -> Found:
    lines = numbered_lines(file)
    number, first = next(lines, (0, b""))
    if not first:  # nothing at all, or too long a line
        if first is None:
            yield number, too_long("" if by_lines else _STREAMED)
            yield from _lines(lines)
        elif not by_lines:
            yield None, _object(parse(b""))
        return
    if _goes_on(first):
        yield from _over_lines(file, number, first, by_lines)
        return
    value, second = parse(first), next(lines, None)
    if second is None and (_is_rows(value) or not by_lines):
        yield from _all(value)
    elif by_lines or not isinstance(value, Problem) or _is_object(second):
        yield number, _object(value)
        yield from _lines(iter([] if second is None else [second]))
        yield from _lines(lines)
    else:
        yield None, value


def _over_lines(file: BinaryIO, number: int, first: bytes | bytearray, by_lines: bool) -> Found:
    """A file whose first line opens what it does not close."""
    start = bytearray(first)
    start += file.read(max(0, records.LONGEST + 1 - len(start)))
    whole = len(start) <= records.LONGEST
    value = _values(start) if whole else too_long(_STREAMED)
    if _is_rows(value) or (whole and not by_lines and not isinstance(value, Problem)):
        yield from _all(value)
        return
    second = next((line for _, line in numbered_lines(io.BytesIO(start[len(first) : len(first) + 2**20]))), b"")
    if (by_lines and whole) or (first.lstrip()[:1] == b"{" and _is_object((0, second))):
        both: BinaryIO = io.BufferedReader(_Joined(start, file))
        yield from _lines(numbered_lines(both, number - 1))
    elif isinstance(value, Problem):
        yield None, value


def _lines(lines: Iterator[tuple[int, bytes | bytearray | None]]) -> Found:
    for number, line in lines:
        yield number, too_long() if line is None else _object(parse(line))


def _all(value: object) -> Found:
    for record in value if isinstance(value, list) else [value]:
        yield None, _object(record)


def _is_rows(value: object) -> bool:
    return isinstance(value, list) and bool(value) and all(isinstance(each, Mapping) for each in value)


def _is_object(second: tuple[int, bytes | bytearray | None] | None) -> bool:
    return second is not None and bool(second[1]) and isinstance(parse(second[1] or b""), Mapping)


def parse(data: bytes | bytearray) -> object:
    """The value of a JSON text, or a `Problem`."""
    text = decode(data)
    if isinstance(text, Problem):
        return text
    try:
        return json.loads(text)
    except (ValueError, RecursionError) as error:  # ValueError also for integers of thousands of digits
        return _corrupt(error)


def _values(data: bytearray) -> object:
    """The value of a JSON text, or the list of all where several follow each other, as `jq` writes them."""
    text = decode(data)
    if isinstance(text, Problem):
        return text
    space, decoder, values = re.compile(r"\s*"), json.JSONDecoder(), []
    at = _end(space, text, 0)
    try:
        while at < len(text):
            value, at = decoder.raw_decode(text, at)
            values.append(value)
            at = _end(space, text, at)
    except (ValueError, RecursionError) as error:
        return _corrupt(error)
    return values[0] if len(values) == 1 else values


def _end(space: re.Pattern[str], text: str, at: int) -> int:
    found = space.match(text, at)
    return found.end() if found else at


def _goes_on(line: bytes | bytearray) -> bool:
    """Whether a line is sound JSON as far as it goes, and opens what it does not close."""
    text = decode(line)
    if isinstance(text, Problem) or not text.lstrip().startswith(("{", "[")):
        return False
    try:
        json.loads(text)
    except json.JSONDecodeError as error:
        return error.pos >= len(text.rstrip())
    except (ValueError, RecursionError):
        pass
    return False


def _corrupt(error: Exception) -> Problem:
    return Problem("corrupt JSON", "JSON", str(error), fix_or_skip("record"))


def _object(value: object) -> Record:
    return value if isinstance(value, Mapping | Problem) else no_object(value)


class _Joined(io.RawIOBase):
    """Bytes that were read already, and then the rest of their file."""

    def __init__(self, start: bytearray, file: BinaryIO) -> None:
        self._start, self._at, self._file = start, 0, file

    def readable(self) -> bool:
        return True

    def readinto(self, buffer) -> int:  # type: ignore[override]
        data = bytes(self._start[self._at : self._at + len(buffer)])
        self._at += len(data)
        data = data or self._file.read(len(buffer))
        buffer[: len(data)] = data
        return len(data)

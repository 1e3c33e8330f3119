"""WebDataset tars: members that share a name up to its first dot are one sample, of which text and JSON are read.

The archive is streamed, and nothing in it is trusted: the headers are parsed here, since `tarfile` would take a name of
gigabytes into memory; what is longer than the longest record is passed over.
"""

from __future__ import annotations

import tarfile
from collections.abc import Iterator, Mapping
from posixpath import dirname
from typing import Any, BinaryIO

from samplewise.data import records
from samplewise.data.json_files import parse
from samplewise.data.records import Problem, Record, decode, no_object, too_long

BLOCK = 512
NAME_BYTES = 2**16
"""Of a long name, or of the fields that a pax header holds, at most; longer ones are passed over."""
REGULAR = (tarfile.REGTYPE, tarfile.AREGTYPE, tarfile.CONTTYPE)
EMPTY = (tarfile.LNKTYPE, tarfile.SYMTYPE, tarfile.CHRTYPE, tarfile.BLKTYPE, tarfile.DIRTYPE, tarfile.FIFOTYPE)
"""Kinds of members without content, whatever size they state."""
TEXT, JSON, KEY = "txt", "json", "__key__"
PIECE = 2**20


def read_tar(file: BinaryIO, field: object) -> Iterator[tuple[int | None, Record]]:
    """A record a sample: the fields of its .json member; its .txt member as `text`, or as `txt` beside a text there;
    the name that they share as `__key__`. Names of other members are fields without a value.
    """
    key = ""
    held: dict[str, bytes | Problem] = {}
    for name, size in members(file):
        own, kind = _split(name)
        if held and own != key:
            yield None, _sample(key, held)
            held = {}
        wanted = kind in (TEXT, JSON)
        data = _content(file, size, records.LONGEST if wanted else -1)
        key, held[kind] = own, (too_long() if data is None else data) if wanted else b""
    if held:
        yield None, _sample(key, held)


def _split(name: str) -> tuple[str, str]:
    """The key of a member and its kind: what comes before and after the first dot of its last part.

    >>> _split("part.1/000017.seg.json")
    ('part.1/000017', 'seg.json')
    """
    folder = dirname(name)
    base, _, kind = name[len(folder) :].lstrip("/").partition(".")
    return (f"{folder}/{base}" if folder else base), kind.lower()


def _sample(key: str, held: Mapping[str, bytes | Problem]) -> Record:
    for kind in (JSON, TEXT):
        if isinstance(problem := held.get(kind), Problem):
            return problem
    if JSON not in held and TEXT not in held:
        return Problem(
            "no text", "a .txt or .json member in each sample of a WebDataset tar",
            f"{key} with {', '.join(held)[:80] or 'no suffix'}", "Unpack it, and give the files in it.",
        )  # fmt: skip
    found: dict[str, Any] = {KEY: key, **dict.fromkeys(kind for kind in held if kind not in (JSON, TEXT))}
    if JSON in held:
        fields = parse(_bytes(held[JSON]))
        if not isinstance(fields, dict):
            return fields if isinstance(fields, Problem) else no_object(fields)
        found |= fields
    if TEXT in held:
        text = decode(_bytes(held[TEXT]))
        if isinstance(text, Problem):
            return text
        found[TEXT if "text" in found else "text"] = text
    return found


def _bytes(data: bytes | Problem) -> bytes:
    assert isinstance(data, bytes)
    return data


def members(file: BinaryIO) -> Iterator[tuple[str, int]]:
    """(name, size) of every regular member; the caller reads its content before the next.

    Errors: EOFError where the archive breaks off, and for a damaged header.
    """
    longer: dict[str, str] = {}
    while (header := _header(file)) is not None:
        if header.type in (tarfile.GNUTYPE_LONGNAME, tarfile.XHDTYPE):
            data = _content(file, header.size, NAME_BYTES)
            if data is not None:
                longer = _pax(data) if header.type == tarfile.XHDTYPE else {"path": _text(data.rstrip(b"\0"))}
            continue
        name, size, longer = longer.get("path", header.name), _size(longer.get("size"), header.size), {}
        if header.type in REGULAR:
            yield name, size
        elif header.type not in EMPTY:
            _content(file, size, -1)


def _header(file: BinaryIO) -> tarfile.TarInfo | None:
    block = file.read(BLOCK)
    if not block.strip(b"\0"):
        return None
    try:
        header = tarfile.TarInfo.frombuf(block, "utf-8", "surrogateescape")
    except tarfile.HeaderError as error:
        raise EOFError(f"a damaged header in the archive ({error})") from None
    if header.size < 0 or header.type == tarfile.GNUTYPE_SPARSE:
        raise EOFError(f"a sparse or damaged member in the archive, {header.name}")
    return header


def _pax(data: bytes) -> dict[str, str]:
    """The fields of a pax header, "length key=value\\n" each, the length that of the whole; up to the first bad one."""
    found: dict[str, str] = {}
    while data:
        size, _, rest = data.partition(b" ")
        if not size.isdigit() or not len(size) < int(size) <= len(data):
            break
        key, _, value = rest[: int(size) - len(size) - 2].partition(b"=")
        found[_text(key)] = _text(value)
        data = data[int(size) :]
    return found


def _text(data: bytes) -> str:
    return data.decode("utf-8", "surrogateescape")


def _size(text: str | None, size: int) -> int:
    return int(text) if text is not None and text.isdecimal() and len(text) < 20 else size


def _content(file: BinaryIO, size: int, most: int) -> bytes | None:
    """The bytes of a member, and past its padding; None, all passed over, where they are more than `most`."""
    kept = size <= most
    found = bytearray()
    left = -(-size // BLOCK) * BLOCK
    while left:
        piece = file.read(min(left, PIECE))
        if not piece:
            raise EOFError("the archive ends within a member")
        if kept:
            found += piece
        left -= len(piece)
    return bytes(found[:size]) if kept else None

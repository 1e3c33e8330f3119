"""The header of a GGUF file, read without its tensors."""

from __future__ import annotations

import math
import os
import struct
from typing import Any, BinaryIO

from samplewise.core.errors import SamplewiseError


def gguf_fields(path: str) -> dict[str, Any]:
    """The scalar metadata of a GGUF file (arrays are skipped): a few ms, where gguf.GGUFReader takes seconds.

    GGUF.tensors and GGUF.elements are how many tensors it holds, and how many numbers these have together; GGUF.rows
    those of the embedding, None without one. Raises SamplewiseError for a file that is not there, no GGUF, or ends
    within its header.
    """
    try:
        with open(path, "rb") as file:
            size = os.path.getsize(path)
            if file.read(4) != b"GGUF":
                raise SamplewiseError(path, expected="a GGUF file", got="another format", remedy="Check the file.")
            version, tensors, count = struct.unpack("<IQQ", file.read(20))
            if version not in (2, 3):
                got = f"version {version}"
                raise SamplewiseError(
                    path,
                    expected="GGUF version 2 or 3",
                    got=got,
                    remedy="Convert the file again with a current llama.cpp.",
                )
            fields = dict(_field(file, size) for _ in range(count))
            shapes = [_named_shape(file, size) for _ in range(tensors)]
            elements = sum(math.prod(shape) for _, shape in shapes)
            rows = next((shape[-1] for name, shape in shapes if name == b"token_embd.weight" and shape), None)
            own = {"GGUF.version": version, "GGUF.tensors": tensors, "GGUF.elements": elements, "GGUF.rows": rows}
            return own | fields
    except (struct.error, KeyError, EOFError, UnicodeDecodeError, RecursionError, OverflowError):
        raise SamplewiseError(
            path, expected="a whole GGUF file", got="a damaged or truncated header", remedy="Download the file again."
        ) from None
    except OSError as error:
        got = "no such file" if isinstance(error, FileNotFoundError) else error.strerror
        raise SamplewiseError(path, expected="a .gguf file", got=got, remedy="Check the path.") from None


_SCALARS = dict(enumerate("BbHhIif?")) | dict(zip((10, 11, 12), "Qqd", strict=True))  # value types 8, 9: string, array


def _field(file: BinaryIO, size: int) -> tuple[str, Any]:
    return _string(file, size).decode(), _value(file, size, *struct.unpack("<I", file.read(4)))


def _string(file: BinaryIO, size: int) -> bytes:
    (length,) = struct.unpack("<Q", file.read(8))
    if length > size - file.tell():
        raise EOFError
    return file.read(length)


def _value(file: BinaryIO, size: int, kind: int) -> Any:
    if kind == 8:
        return _string(file, size).decode("utf-8", "replace")
    if kind == 9:
        inner, count = struct.unpack("<IQ", file.read(12))
        if inner in _SCALARS:
            file.seek(count * struct.calcsize("<" + _SCALARS[inner]), os.SEEK_CUR)
        else:
            for _ in range(count):
                _value(file, size, inner)
        return None
    code = "<" + _SCALARS[kind]
    return struct.unpack(code, file.read(struct.calcsize(code)))[0]


def _named_shape(file: BinaryIO, size: int) -> tuple[bytes, tuple[int, ...]]:
    name = _string(file, size)
    (dimensions,) = struct.unpack("<I", file.read(4))
    if dimensions > 8:
        raise EOFError
    shape = struct.unpack(f"<{dimensions}Q", file.read(8 * dimensions))
    file.read(12)  # type and offset
    return name, shape

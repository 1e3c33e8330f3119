"""Files as they are, or decompressed while they are read; what the first bytes say goes before the suffix."""

from __future__ import annotations

import codecs
import gzip
import io
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any, BinaryIO

from samplewise.core.errors import missing_extra
from samplewise.data.signatures import GZIP, HEAD, encoding_of, is_zstd

COMPRESSED = (".gz", ".zst")

LARGEST_WINDOW = 2**31
"""Bytes that zstd may look back: what `zstd --long=31` writes. A file of a long window needs that much memory."""


def decompressed(raw: BinaryIO, path: Path) -> tuple[BinaryIO, bytes]:
    """(the content of an open file from its start, its first bytes); EOFError on reading one that breaks off.

    Text in UTF-16 or UTF-32 with a byte-order mark comes as UTF-8. A file named .gz or .zst that is neither is taken
    as it is where it begins as JSON does, as downloads that were decompressed on the way do; else it is damaged.
    """
    packed = _head(raw)
    raw.seek(0)
    unpack = _unpacker(packed, path.suffix.lower())
    head = packed if unpack is _same else _head(unpack(raw))
    raw.seek(0)
    content, encoding = unpack(raw), encoding_of(head)
    return (content if encoding is None else io.BufferedReader(_Recoded(content, encoding), 2**16)), head


def _unpacker(head: bytes, suffix: str) -> Callable[[BinaryIO], BinaryIO]:
    plain = head.lstrip()[:1] in (b"{", b"[")
    if head.startswith(GZIP) or (suffix == ".gz" and head and not plain and not is_zstd(head)):
        return _gunzipped
    if is_zstd(head) or (suffix == ".zst" and not plain):
        return _unzstd
    return _same


def _same(raw: BinaryIO) -> BinaryIO:
    return raw


def _gunzipped(raw: BinaryIO) -> BinaryIO:
    return gzip.open(raw)  # type: ignore[return-value]


def _unzstd(raw: BinaryIO) -> BinaryIO:
    return io.BufferedReader(_ZstdReader(raw), 2**16)


def _head(file: BinaryIO) -> bytes:
    """The first bytes, as far as they can be read: damage is met again, and named, when the file is read."""
    try:
        return file.read(HEAD)
    except (EOFError, zlib.error, gzip.BadGzipFile):
        return b""
    except Exception as error:
        if type(error).__name__ == "ZstdError":  # imported only where needed
            return b""
        raise


class _Recoded(io.RawIOBase):
    """A file of another encoding as UTF-8, without a byte-order mark. Raises UnicodeDecodeError on damage."""

    def __init__(self, file: BinaryIO, encoding: str) -> None:
        self._file, self._decoder = file, codecs.getincrementaldecoder(encoding)()
        self._output, self._ended = b"", False

    def readable(self) -> bool:
        return True

    def readinto(self, buffer) -> int:  # type: ignore[override]
        while not self._output and not self._ended:
            data = self._file.read(2**15)
            self._ended = not data
            self._output = self._decoder.decode(data, final=self._ended).encode()
        size = min(len(buffer), len(self._output))
        buffer[:size] = self._output[:size]
        self._output = self._output[size:]
        return size


class _ZstdReader(io.RawIOBase):
    """zstd frames as a file that raises EOFError where the last one breaks off: zstandard's own reader ends silently.

    Read in small pieces, since decompressobj has no bound on its output: 4 bytes can become 128 kB.
    """

    def __init__(self, raw: BinaryIO) -> None:
        try:
            import zstandard
        except ModuleNotFoundError:
            raise missing_extra("zstandard", "corpus", ".zst") from None
        self._start = zstandard.ZstdDecompressor(max_window_size=LARGEST_WINDOW).decompressobj
        self._frame: Any = None
        self._raw, self._input, self._output = raw, b"", b""

    def readable(self) -> bool:
        return True

    def readinto(self, buffer) -> int:  # type: ignore[override]
        while not self._output:
            self._input = self._input or self._raw.read(2048)
            if not self._input:
                if self._frame is not None:
                    raise EOFError("the compressed file ends before its end mark")
                return 0
            self._frame = self._frame or self._start()
            self._output = self._frame.decompress(self._input)
            self._input = self._frame.unused_data if self._frame.eof else b""
            self._frame = None if self._frame.eof else self._frame
        size = min(len(buffer), len(self._output))
        buffer[:size] = self._output[:size]
        self._output = self._output[size:]
        return size

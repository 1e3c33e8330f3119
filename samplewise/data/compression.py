"""Files as they are, or decompressed while they are read."""

from __future__ import annotations

import gzip
import io
from pathlib import Path
from typing import Any, BinaryIO

from samplewise.core.errors import missing_extra

COMPRESSED = (".gz", ".zst")


def decompressed(raw: BinaryIO, path: Path) -> BinaryIO:
    """The content of an open file, by the suffix of its path; EOFError on reading one that breaks off."""
    if path.suffix.lower() == ".gz":
        return gzip.open(raw)  # type: ignore[return-value]
    if path.suffix.lower() == ".zst":
        return io.BufferedReader(_ZstdReader(raw), 2**16)
    return raw


class _ZstdReader(io.RawIOBase):
    """zstd frames as a file that raises EOFError where the last one breaks off: zstandard's own reader ends silently.

    Read in small pieces, since decompressobj has no bound on its output: 4 bytes can become 128 kB.
    """

    def __init__(self, raw: BinaryIO) -> None:
        try:
            import zstandard
        except ImportError:
            raise missing_extra("zstandard", "corpus", ".zst") from None
        self._start = zstandard.ZstdDecompressor().decompressobj
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

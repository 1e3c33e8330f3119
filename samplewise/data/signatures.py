"""What the first bytes of a file tell about it, whatever its name says."""

from __future__ import annotations

import re

from samplewise.data.records import Problem

HEAD = 512
"""Bytes that are looked at: the mark of a tar stands at 257."""

GZIP = b"\x1f\x8b"
PARQUET = b"PAR1\x15"  # the mark, and how the first structure after it begins: PAR1 alone may begin a text

ARROW_FILE = b"ARROW1\x00\x00"
ARROW_STREAM = re.compile(rb"\xff\xff\xff\xff..\x00\x00\x10\x00\x00\x00", re.DOTALL)

_LFS = re.compile(rb"version https://(git-lfs|hawser)\.github\.com/spec/")
_ZSTD = re.compile(rb"\x28\xb5\x2f\xfd|[\x50-\x5f]\x2a\x4d\x18", re.DOTALL)  # a frame, or one to be skipped
_FOREIGN = {
    "a zip archive": re.compile(rb"PK(\x03\x04|\x05\x06)"),
    "a tar archive": re.compile(rb".{257}ustar", re.DOTALL),
    "a 7z archive": re.compile(rb"7z\xbc\xaf\x27\x1c"),
    "a rar archive": re.compile(rb"Rar!\x1a\x07"),
    "a file compressed with bzip2": re.compile(rb"BZh[1-9]1AY&SY"),
    "a file compressed with xz": re.compile(rb"\xfd7zXZ\x00"),
}
_BYTE_ORDER_MARKS = {  # the longer ones first: UTF-16's begins UTF-32's
    b"\xff\xfe\x00\x00": "utf-32",
    b"\x00\x00\xfe\xff": "utf-32",
    b"\xff\xfe": "utf-16",
    b"\xfe\xff": "utf-16",
}


def is_lfs_pointer(head: bytes) -> bool:
    """Whether a file is what Git LFS puts in the place of one that was not downloaded.

    >>> is_lfs_pointer(b"version https://git-lfs.github.com/spec/v1\\noid sha256:4d7a")
    True
    """
    return _LFS.match(head) is not None


def is_zstd(head: bytes) -> bool:
    """Whether a zstd frame begins here."""
    return _ZSTD.match(head) is not None


def is_tar(head: bytes) -> bool:
    """Whether a tar archive begins here; those older than 1988 have no mark."""
    return _FOREIGN["a tar archive"].match(head) is not None


def encoding_of(head: bytes) -> str | None:
    """The encoding that a byte-order mark names, but for UTF-8.

    >>> encoding_of("text".encode("utf-16")), encoding_of(b"text"), encoding_of("\\ufefftext".encode())
    ('utf-16', None, None)
    """
    return next((name for mark, name in _BYTE_ORDER_MARKS.items() if head.startswith(mark)), None)


def foreign(head: bytes) -> Problem | None:
    """What keeps a file from being read as data: a pointer of Git LFS, an archive, another container."""
    if is_lfs_pointer(head):
        return lfs_pointer("a Git LFS pointer")
    for got, magic in _FOREIGN.items():
        if magic.match(head):
            remedy = "Unpack it, and give the files in it."
            return Problem(
                got.split(" ", 1)[1], "text, JSON, CSV or Parquet, as .gz or .zst or as they are", got, remedy
            )
    return None


def lfs_pointer(got: str) -> Problem:
    """The problem of a Git LFS pointer, which stands in a clone in place of the file."""
    remedy = "Run `git lfs pull` in the clone, or download the files, and give the same command again."
    return Problem("Git LFS pointer", "the content of the file", got, remedy)

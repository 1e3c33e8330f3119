"""Names of documents, windows and conversations: the same in training and scoring, on every machine, in any
order of reading.
"""

from __future__ import annotations

import hashlib


def document_id(source: str, row: int) -> int:
    """63-bit name of the document at a record of a source.

    >>> document_id("topics/db.txt", 0)
    2945924119453167978
    """
    return _name(b"samplewise doc", source, row)


def window_id(source: str, row: int, index: int) -> int:
    """63-bit name of a document's window: among 10^9 windows two share one with a probability of about 5%.

    >>> window_id("topics/db.txt", 0, 3)
    4250521771153291804
    """
    return _name(b"samplewise win", source, row, index)


def instruction_id(source: str, row: int) -> int:
    """63-bit name of the conversation at a record of a source.

    >>> instruction_id("dolly.json", 0)
    2213100293073510135
    """
    return _name(b"samplewise row", source, row)


def _name(kind: bytes, source: str, *numbers: int) -> int:
    data = b"".join(number.to_bytes(8) for number in numbers) + source.encode("utf-8", "surrogateescape")
    return int.from_bytes(hashlib.blake2b(data, digest_size=8, person=kind).digest()) >> 1

"""Amounts as people write them: 2B tokens, 500M, 10k; 2GB of memory."""

from __future__ import annotations

import re

from samplewise.core.errors import SamplewiseError
from samplewise.core.typed import MAX_INT64, shown

UNITS = {"": 1, "k": 10**3, "m": 10**6, "g": 10**9, "b": 10**9, "t": 10**12}
BYTES = {"": 1, **{f"{unit}{more}": base**power for power, unit in enumerate("kmgt", 1)
                   for more, base in (("", 1000), ("b", 1000), ("ib", 1024))}}  # fmt: skip
MIN_MEMORY = 16 * 10**6


def amount(text: str, name: str = "amount") -> int:
    """The whole number above 0 that a text means. Errors: SamplewiseError for anything else.

    >>> amount("2B"), amount("1.5M"), amount("10_000")
    (2000000000, 1500000, 10000)
    """
    return _read(text, UNITS, 1, name, "a number above 0 and below 2^63, such as 2B, 500M or 10k")


def memory_bytes(text: str, name: str = "--memory") -> int:
    """The bytes that a text means. Errors: SamplewiseError for anything else, and for too few to work with.

    >>> memory_bytes("2GB"), memory_bytes("64MiB")
    (2000000000, 67108864)
    """
    return _read(text, BYTES, MIN_MEMORY, name, "bytes, such as 2GB or 500MB, and at least 16MB")


def size_in_bytes(text: str, name: str) -> int:
    """The bytes of a file that a text means. Errors: SamplewiseError for anything else.

    >>> size_in_bytes("256MiB", "--shard-size")
    268435456
    """
    return _read(text, BYTES, 1, name, "a size above 0, such as 1GB or 256MB")


def _read(text: str, units: dict[str, int], least: int, name: str, expected: str) -> int:
    found = re.fullmatch(r"\s*([0-9][0-9_,]{0,30}(?:\.[0-9]{1,30})?)\s*([a-z]{0,3})\s*", str(text), re.IGNORECASE)
    unit = units.get(found[2].lower()) if found else None
    number = float(re.sub("[_,]", "", found[1])) * unit if found and unit else 0
    if not least <= number <= MAX_INT64:
        raise SamplewiseError(name, expected=expected, got=shown(text), remedy="Correct the value.")
    return round(number)

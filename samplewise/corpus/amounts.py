"""Amounts as people write them: 2B tokens, 500M, 10k."""

from __future__ import annotations

import re

from samplewise.core.errors import SamplewiseError

UNITS = {"": 1, "k": 10**3, "m": 10**6, "g": 10**9, "b": 10**9, "t": 10**12}


def amount(text: str, name: str = "amount") -> int:
    """The whole number above 0 that a text means. Errors: SamplewiseError for anything else.

    >>> amount("2B"), amount("1.5M"), amount("10_000")
    (2000000000, 1500000, 10000)
    """
    found = re.fullmatch(r"\s*(\d[\d_,]*(?:\.\d+)?)\s*([kmgbt]?)\s*", str(text), re.IGNORECASE)
    number = float(re.sub("[_,]", "", found[1])) * UNITS[found[2].lower()] if found else 0
    if not found or number < 1:
        raise SamplewiseError(
            name, expected="a number above 0, such as 2B, 500M or 10k", got=repr(text), remedy="Check it."
        )
    return round(number)

"""Sums of doubles in DuckDB that are the same to the last bit, however its threads divide the rows among them.

Numbers are rounded to a common unit before they are added, which makes every addition exact, and what was cut off is
added in the same way: Demmel and Nguyen, *Fast reproducible floating-point summation* (2013), with two folds. That is
more exact than a plain sum. Cost: one pass for the largest number, where it is not known, and six additions a row.
"""

from __future__ import annotations

import math
from typing import Any

_DIGITS = 53


def sum_sql(value: str, largest: float, count: int) -> str:
    """SQL of the sum of a double. largest: of its finite absolute values; count: rows at most.

    Numbers near the largest double are added as they come.
    """
    return f"({' + '.join(folds_sql(value, largest, count))})"


def folds_sql(value: str, largest: float, count: int) -> list[str]:
    """The same in terms, each of which may be summed over parts before they are added to each other."""
    if not math.isfinite(largest * count) or (first := _exponent(largest * count)) >= 1022:
        return [f"sum({value})"]
    second = max(first - _DIGITS + _exponent(count), -900)
    high = _rounded(value, first)
    return [f"sum({high})", f"sum({_rounded(f'({value} - {high})', second)})"]


def sums(connection: Any, rows: str, *values: str) -> list[str]:
    """SQL of the sum of each value of a table, given as SQL: one pass to find their largest."""
    largest = ", ".join(f"max(abs({value})) FILTER (isfinite({value}))" for value in values)
    *found, count = connection.sql(f"SELECT {largest}, count(*) FROM {rows}").fetchall()[0]
    return [sum_sql(value, each or 0.0, count) for value, each in zip(values, found, strict=True)]


def _exponent(bound: float) -> int:
    """Of a power of two that is at least twice the bound."""
    return math.frexp(max(bound, 1e-200))[1] + 1


def _rounded(value: str, exponent: int) -> str:
    """To a multiple of 2^(exponent − 52): a number that leaves room for no finer digits is added and taken away."""
    large = f"'{1.5 * 2.0**exponent!r}'::DOUBLE"
    return f"(({value} + {large}) - {large})"

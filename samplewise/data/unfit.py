"""What a row's fields must be: text, a number, JSON. What is not ends the reading of that row, however deep it lies."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from functools import cache
from logging import getLogger
from typing import Any

from samplewise.data.records import Problem, fix_or_skip, unfit_text

logger = getLogger("samplewise")


class Unfit(Exception):  # noqa: N818  no error by itself: `conversation_of` makes a `Problem` of it
    """Raised to end the reading of one record, with the `Problem` that it carries."""

    def __init__(self, reason: str, expected: str, got: str, remedy: str = "") -> None:
        super().__init__(reason)
        self.problem = Problem(reason, expected, got, remedy or fix_or_skip("row"))


def checked_text(value: Any, place: str) -> str:
    """A text that UTF-8 can hold. Errors: Unfit."""
    if not isinstance(value, str):
        raise Unfit("no text", f"text in {place}", "null" if value is None else type(value).__name__)
    if problem := unfit_text(value):
        raise Unfit(problem.reason, problem.expected, problem.got, problem.remedy)
    return value


def checked_number(
    record: Mapping[str, Any], name: str, *, least: float = -math.inf, reason: str = "", place: str = ""
) -> float | None:
    """A finite number in a field, None where there is none. Errors: Unfit."""
    value = record.get(name)
    if value is None:
        return None
    ok = isinstance(value, (int, float)) and not isinstance(value, bool) and math.isfinite(value) and value >= least
    if not ok:
        expected = f"a finite number{' of at least 0' if least == 0 else ''} in {place}{name}"
        raise Unfit(reason or f"bad {name}", expected, repr(value))
    return float(value)


def parsed(text: str, reason: str, expected: str) -> Any:
    """What a text of JSON stands for; None for white space. Errors: Unfit with this reason."""
    try:
        return json.loads(text) if text.strip() else None
    except (ValueError, RecursionError) as error:  # ValueError also for integers of thousands of digits
        raise Unfit(reason, expected, f"{text[:40]!r} ({error})") from None


@cache
def say_once(message: str) -> None:
    """Log how something in the rows is read, once in the life of the process and not once a row."""
    logger.warning("%s", message)

"""Ways to corrupt what was good: values, nested structures, texts and bytes."""

from __future__ import annotations

import copy
from random import Random
from typing import Any

VALUES: list[Any] = [
    None, True, False, 0, -1, 1, 2, 2**31, 2**63, 2**64, 10**30, -(2**63), 0.0, -0.5, 1.5, 1e-300, 1e308, float("nan"),
    float("inf"), float("-inf"), "", " ", "none", "null", "nan", "true", "1", "1e3", "1:20", "text", "naïve 🙂",
    "\ud800", "\x00", "a\nb", "\x1b[31m", "x" * 5000, "../out", ".", "{{ 1/0 }}", [], [[]], [None], [1, 2, 3], ["a"],
    {}, {"a": 1}, {"": ""}, {"messages": []}, {"role": "user"},
]  # fmt: skip
"""What stands where something else was expected."""

TEXTS = ["", " ", "\t", "\x00", "\ufeff", "nan", "NaN", "Infinity", "null", "-", "(", ")", "[", "]", "{", "}", '"', "'",
         ":", ",", "=", "\\", "\n", "\r\n", "%", "{%", "{{", "é", "🙂", "\ud83d", "1e999", "9" * 400, "((((((((((",
         "!!python/object:os.system", "&a *a", "<<: 1", "---", "#"]  # fmt: skip


def value(dice: Random) -> Any:
    """One of `VALUES`, now and then nested deeply."""
    if dice.random() < 0.05:
        deep: Any = dice.choice(VALUES)
        for _ in range(dice.choice([3, 40, 200])):
            deep = [deep] if dice.random() < 0.5 else {"a": deep}
        return deep
    return copy.deepcopy(dice.choice(VALUES))


def structure(dice: Random, given: Any, times: int = 1) -> Any:
    """A deep copy in which `times` places have another value, another key, or none."""
    corrupted = copy.deepcopy(given)
    for _ in range(times):
        places = list(_places(corrupted))
        if not places:
            return value(dice)
        holder, key = dice.choice(places)
        deed = dice.random()
        if deed < 0.7:
            holder[key] = value(dice)
        elif deed < 0.85:
            del holder[key]
        elif isinstance(holder, dict):
            holder[dice.choice([f"{key}s", f"{key}"[:-1], str(value(dice))[:20]])] = holder.pop(key)
        else:
            holder.insert(key, value(dice))
    return corrupted


def _places(given: Any) -> Any:
    if isinstance(given, (dict, list)):
        for key in list(given) if isinstance(given, dict) else range(len(given)):
            yield given, key
            yield from _places(given[key])


def text(dice: Random, given: str, times: int = 1) -> str:
    """The text with parts left out, put in, doubled or cut off."""
    for _ in range(times):
        at = dice.randint(0, len(given))
        end = min(len(given), at + dice.randint(1, 8))
        deed = dice.random()
        if deed < 0.4:
            given = given[:at] + dice.choice(TEXTS) + given[at:]
        elif deed < 0.6:
            given = given[:at] + given[end:]
        elif deed < 0.75:
            given = given[:at] + dice.choice(TEXTS) + given[end:]
        elif deed < 0.9:
            given = given[:at] + given[at:end] * dice.choice([2, 3, 50]) + given[end:]
        else:
            given = given[:at]
    return given


def data(dice: Random, given: bytes) -> bytes:
    """The bytes cut off, overwritten, emptied or with a bit flipped."""
    at = dice.randint(0, max(0, len(given) - 1))
    deed = dice.random()
    if deed < 0.3:
        return given[:at]
    if deed < 0.6 and given:
        return given[:at] + bytes([given[at] ^ (1 << dice.randint(0, 7))]) + given[at + 1 :]
    if deed < 0.9:
        return given[:at] + dice.randbytes(dice.choice([1, 8, 200])) + given[at + dice.choice([0, 8]) :]
    return dice.choice([b"", b"\x00" * 64, b"{}", b"[]", b"null", b"version https://git-lfs.github.com/spec/v1\n"])

"""Scales: from values to shares of a plot's width or height, and round numbers to label them with."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise

LETTER, BETWEEN = 7.0, 8.0
"""px of a letter of a label at most, and between two labels at least."""
MANY = 12
"""Digits of labels that lie closer than a millionth."""


@dataclass(frozen=True)
class Axis:
    """What is measured along one side of a plot, in which unit. low, high: its ends; None takes them from the data.

    log: logarithmic, for values above 0. ticks: labels at given places instead of round numbers.
    """

    label: str = ""
    low: float | None = None
    high: float | None = None
    log: bool = False
    ticks: tuple[tuple[float, str], ...] = ()

    def fitted(self, values: Iterable[float], *, pad: float = 0.0) -> Axis:
        """The same axis with both ends known; `pad` is the share of the span left free at ends that were not given."""
        finite = [value for value in values if math.isfinite(value) and (value > 0 or not self.log)]
        least, most = (min(finite), max(finite)) if finite else (1.0, 2.0)
        low, high = least if self.low is None else self.low, most if self.high is None else self.high
        if low >= high:
            room = abs(low) / 2 or 0.5
            least, most = (low / 2, low * 2) if self.log else (low - room, low + room)
            low, high = low if self.low is not None and self.high is None else least, most
        ends = [math.log(low), math.log(high)] if self.log else [low, high]
        extra = pad * (ends[1] - ends[0])
        ends = [ends[0] - extra * (self.low is None), ends[1] + extra * (self.high is None)]
        low, high = (math.exp(ends[0]), math.exp(ends[1])) if self.log else ends
        return replace(self, low=low, high=high)

    def place(self, value: float) -> float:
        """Where a value stands, from 0 at the low end to 1 at the high end; values beyond stand at the end."""
        assert self.low is not None, "fitted before"
        assert self.high is not None, "fitted before"
        if self.log:
            value, low, high = math.log(max(value, self.low)), math.log(self.low), math.log(self.high)
        else:
            low, high = self.low, self.high
        return min(1.0, max(0.0, (value - low) / (high - low)))

    def labels(self, most: int = 6, width: float | None = None) -> list[tuple[float, str]]:
        """(place, label) of at most about `most` ticks, with as many digits as it takes to distinguish them.

        width: px of the axis where labels stand side by side: fewer of them, where they would touch.
        """
        assert self.low is not None, "fitted before"
        assert self.high is not None, "fitted before"
        if self.ticks:
            return _apart([(self.place(value), text) for value, text in self.ticks], width)
        if self.log:
            return _apart([(self.place(v), number(v)) for v in _powers(self.low, self.high, most)], width)
        found: list[tuple[float, str]] = []
        for count in range(most, 1, -1):
            values = round_numbers(self.low, self.high, count)
            found = [(self.place(v), text) for v, text in zip(values, stepped(values), strict=True)]
            if len(_apart(found, width)) == len(found):
                break
        return _apart(found, width)


def round_numbers(low: float, high: float, most: int = 6) -> list[float]:
    """Multiples of 1, 2 or 5 times a power of ten from low to high.

    >>> round_numbers(0.13, 1.02)
    [0.2, 0.4, 0.6, 0.8, 1.0]
    """
    rough = (high - low) / max(1, most - 1)
    power = 10.0 ** math.floor(math.log10(rough))
    step = next(factor * power for factor in (1, 2, 5, 10) if factor * power >= rough * (1 - 1e-9))
    first, last = math.ceil(low / step - 1e-9), math.floor(high / step + 1e-9)
    return [float(f"{k * step:.12g}") for k in range(first, last + 1)]


def stepped(values: Sequence[float]) -> list[str]:
    """Evenly spaced numbers, written with the digits of their spacing.

    >>> stepped([10.81, 10.82]), stepped([0.0, 0.5, 1.0]), stepped([1000.0, 2000.0])
    (['10.81', '10.82'], ['0', '0.5', '1'], ['1,000', '2,000'])
    """
    if len(values) < 2:
        return [number(value) for value in values]
    digits = max(0, -math.floor(math.log10(values[1] - values[0]) + 1e-9))
    if digits > 6:
        return [f"{value:.{MANY}g}".replace("-", "−") for value in values]
    return [
        (f"{value:,.{digits}f}" if round(value, digits) % 1 else f"{value:,.0f}").replace("-", "−") for value in values
    ]


def _apart(labels: list[tuple[float, str]], width: float | None) -> list[tuple[float, str]]:
    """Every one of them, or every second, third, …: the most that do not touch on an axis of `width` px."""
    for step in range(1, len(labels) + 1):
        some = labels[::step]
        if width is None or all(
            (b - a) * width >= LETTER * (len(one) + len(two)) / 2 + BETWEEN for (a, one), (b, two) in pairwise(some)
        ):
            return some
    return labels[:1]


def _powers(low: float, high: float, most: int) -> list[float]:
    first, last = math.floor(math.log10(low)), math.ceil(math.log10(high))
    for factors in ((1, 2, 5), (1, 3), (1,)):
        found = [m * 10.0**k for k in range(first, last + 1) for m in factors if low <= m * 10.0**k <= high]
        if len(found) <= most:
            return found
    return found[:: math.ceil(len(found) / most)]


def number(value: float) -> str:
    """A number for people: about three digits, thousands apart.

    >>> number(12345.6), number(3.14159), number(0.00012), number(-2.0)
    ('12,346', '3.14', '0.00012', '−2')
    """
    if not math.isfinite(value):
        return "–" if math.isnan(value) else str(value)
    whole = value == round(value) or abs(value) >= 1000
    return (f"{value:,.0f}" if whole else f"{value:.3g}").replace("-", "−")


def percent(share: float) -> str:
    """A share as a percentage of about three digits.

    >>> percent(0.1234), percent(1.0), percent(0.00004)
    ('12.3%', '100%', '0.004%')
    """
    return f"{float(f'{100 * share:.3g}'):.10g}%"

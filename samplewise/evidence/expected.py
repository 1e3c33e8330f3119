"""How long a plan will take, from what its first runs took."""

from __future__ import annotations

import time
from dataclasses import dataclass, field


@dataclass
class Expected:
    """left: the budgets of all runs that are left, in budgets of the plan. done: of those that this call finished."""

    left: float
    done: float = 0.0
    started: float = field(default_factory=time.monotonic)

    def add(self, share: float) -> None:
        """Count a run, or trials, of so many budgets as done."""
        self.done, self.left = self.done + share, self.left - share

    def line(self) -> str:
        """What is left, in words; empty at the end."""
        if self.left < 1e-9:
            return ""
        seconds = (time.monotonic() - self.started) * self.left / self.done
        return f"expected   about {lasting(seconds)} for what is left: {self.left:.3g} budgets, after {self.done:.3g}"


def lasting(seconds: float) -> str:
    """A time in words.

    >>> lasting(42), lasting(600), lasting(9000)
    ('42 s', '10 min', '2.5 h')
    """
    if seconds < 90:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"

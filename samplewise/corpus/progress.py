"""How far a scoring is, on stderr: share of the corpus, tokens a second, time left."""

from __future__ import annotations

import time

from samplewise.core import progress

LAYOUT = "{desc} {percentage:3.0f}%|{bar:24}|{postfix}"


class Progress:
    """How far into the corpus. ranks: processes that share the work, of which this one shows it. doing: what they do.

    The time left is what remains of the corpus at the pace so far, all ranks alike; for the rows of a `datasets` name,
    whose end is not known, only the pace is shown.
    """

    def __init__(self, ranks: int = 1, show: bool = True, doing: str = "scoring") -> None:
        self.ranks, self.start = ranks, time.monotonic()
        self.tokens, self.worked = 0, 0.0
        self._first, self._last, self._of, self._in = 0.0, 0.0, 1, 0
        self.shown = progress.Progress(doing, 1.0, layout=LAYOUT, show=show)

    def begin(self, first: float, last: float, tokens: int) -> None:
        """A block that reaches from one share of the corpus to another, of so many tokens."""
        self._first, self._last, self._of, self._in = first, last, max(tokens, 1), 0

    def advance(self, tokens: int) -> None:
        """So many tokens of the block are scored."""
        self.tokens += tokens
        self._in += tokens
        self.worked += (self._last - self._first) * tokens / self._of
        self.show(self._first + (self._last - self._first) * self._in / self._of)

    def show(self, share: float) -> None:
        """Say that a share of the corpus is done."""
        seconds = max(time.monotonic() - self.start, 1e-9)
        text = f"{self.tokens:,} tokens, {self.tokens / seconds:,.0f} tokens/s"
        if self.worked > 0:
            text += f", {_span((1 - share) * seconds / self.worked / self.ranks)} left"
        self.shown.reach(min(share, 1.0), text)

    def close(self) -> tuple[int, float]:
        """Take the bar away; returns (tokens, seconds)."""
        self.shown.close()
        return self.tokens, time.monotonic() - self.start


def _span(seconds: float) -> str:
    """A number of seconds as people read it.

    >>> _span(42), _span(200), _span(9000)
    ('42 s', '3 min', '2.5 h')
    """
    if seconds < 100:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 6000 else f"{seconds / 3600:.1f} h"

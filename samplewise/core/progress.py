"""How far a long piece of work is, on stderr: a bar where somebody watches, a line now and then where nobody does."""

from __future__ import annotations

import io
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stderr
from typing import Any

EVERY = 30.0
"""Seconds between the lines in a pipe or a log file. The first comes after as many: short work is silent there."""


class Progress:
    """A bar on a terminal and in a notebook; in a pipe or a log file a line every `EVERY` seconds.

    total: of what `advance` counts, in `unit`. layout: of the bar, as tqdm takes it. show: False is silent.
    """

    def __init__(
        self, title: str, total: float | None, *, unit: str = "", layout: str | None = None, leave: bool = False,
        show: bool = True, initial: float = 0, **bar: Any,
    ) -> None:  # fmt: skip
        from tqdm import tqdm

        self.title, self.total, self.unit, self.done = title, total, unit, initial
        self.show, self.note, self._told = show, "", -1.0
        self.began = self._said = time.monotonic()
        self.watched = watched(sys.stderr)
        self.bar: Any = tqdm(
            total=total, initial=initial, desc=title, unit=unit, bar_format=layout, leave=leave, file=sys.stderr,
            disable=not (show and self.watched), mininterval=0.5, **bar,
        )  # fmt: skip

    def advance(self, count: float, note: str | None = None) -> None:
        """So much more is done. note: figures beside the bar."""
        self.reach(self.done + count, note)

    def reach(self, done: float, note: str | None = None) -> None:
        """So much is done in all. note: figures beside the bar."""
        step, self.done = done - self.done, done
        if note is not None and note != self.note:
            self.note = note
            self.bar.set_postfix_str(note, refresh=False)
        self.bar.update(step)
        if self.show and not self.watched and time.monotonic() - self._said >= EVERY:
            self.say()

    def say(self) -> None:
        """Write the line of a log file, once for each place."""
        self._said = time.monotonic()
        if self.done == self._told:
            return
        self._told = self.done
        print(self.line(), file=sys.stderr, flush=True)

    def line(self) -> str:
        """Where the work is, in one line."""
        share = f" {self.done / self.total:4.0%}" if self.total else ""
        of = f"/{self.total:,.0f}" if self.total else ""
        count = f" {self.done:,.0f}{of} {self.unit}" if self.unit else ""
        note = f"  {self.note}" if self.note else ""
        return f"{self.title}{share}{count}  {time.monotonic() - self.began:.0f} s{note}"

    def close(self) -> None:
        """Take the bar away, or leave its last state where `leave` says so."""
        self.bar.close()

    def __enter__(self) -> Progress:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()


def watched(stream: Any) -> bool:
    """Whether a line that is drawn over again is read as one: on a terminal, and in a notebook."""
    try:
        return bool(stream.isatty()) or "ZMQ" in type(sys.modules["IPython"].get_ipython()).__name__
    except (AttributeError, KeyError, ValueError):  # no such stream, no IPython, a closed stream
        return False


@contextmanager
def bars_only_if_watched() -> Iterator[None]:
    """The bars of other libraries are not written inside where nobody watches: each would be hundreds of lines."""
    if watched(sys.stderr):
        yield
        return
    with without_bars():
        yield


@contextmanager
def without_bars() -> Iterator[None]:
    """The bars of other libraries are written nowhere inside; all else on stderr is."""
    with redirect_stderr(_WithoutBars(sys.stderr)):
        yield


class _WithoutBars(io.TextIOBase):
    """What is written, but for lines that begin by drawing over the last one."""

    def __init__(self, stream: Any) -> None:
        self.stream, self._drawing = stream, False

    def write(self, text: str) -> int:
        ends = self._drawing and text in ("\n", "")
        self._drawing = text.startswith("\r")
        if not self._drawing and not ends:
            self.stream.write(text)
        return len(text)

    def flush(self) -> None:
        self.stream.flush()

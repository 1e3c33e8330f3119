"""The one exception of this library."""

from __future__ import annotations

import difflib
from typing import Any

PLAIN_TYPES = (str, int, float, bool, type(None))
"""What `got` may be in another process; anything else goes there as text, for not all can be pickled."""


class SamplewiseError(ValueError):
    """The one exception of this library: which argument, what was expected, what was got, what to do.

    It can be pickled, so that it arrives as itself from process pools and Ray. A torch loader builds the error of a
    worker anew from a text alone, the worker's traceback: the message is then the one that this text ends with.

    >>> raise SamplewiseError("r", expected="a number other than 0", got=0, remedy="Use uniform() for no tilt.")
    Traceback (most recent call last):
    samplewise.core.errors.SamplewiseError: r: expected a number other than 0, got 0. Use uniform() for no tilt.
    """

    def __init__(self, argument: str, *, expected: str = "", got: object = None, remedy: str = "") -> None:
        if not expected:
            _, _, message = argument.rpartition(f"{type(self).__name__}: ")
            super().__init__(message.strip())
            if message != argument:
                self.add_note(argument)
            argument = message.partition(": ")[0]
        else:
            super().__init__(f"{argument}: expected {expected}, got {got}. {remedy}")
        self.argument, self.expected, self.got, self.remedy = argument, expected, got, remedy

    def __reduce__(self) -> tuple[Any, ...]:
        got = self.got if type(self.got) in PLAIN_TYPES else str(self.got)
        own = type(self) if type(self).__init__ is SamplewiseError.__init__ else SamplewiseError
        notes = {"__notes__": list(self.__notes__)} if hasattr(self, "__notes__") else None
        if not self.expected:
            return own, (str(self),), notes
        return _again, (own, self.argument, self.expected, got, self.remedy), notes


def _again(own: type[SamplewiseError], argument: str, expected: str, got: object, remedy: str) -> SamplewiseError:
    return own(argument, expected=expected, got=got, remedy=remedy)


def missing_extra(module: str, extra: str, purpose: str) -> SamplewiseError:
    """The error for an optional dependency that is not installed."""
    return SamplewiseError(
        purpose, expected=f"the package {module}", got="not installed",
        remedy=f'Install it: pip install "samplewise[{extra}]".',
    )  # fmt: skip


MOST_NAMES = 40
"""Names that a message lists; the Trainer alone has more than 100 arguments."""


def nearest(name: str, known: object) -> str:
    """A remedy that names the nearest of the known names, or all of them; of very many, some."""
    names = [str(each) for each in known]  # pyright: ignore[reportGeneralTypeIssues]
    if near := difflib.get_close_matches(name, names, n=1):
        return f"Did you mean {near[0]}?"
    if len(names) <= MOST_NAMES:
        return f"Known: {', '.join(names) or 'none'}."
    some = difflib.get_close_matches(name, names, n=5, cutoff=0.0)
    return f"Known: {len(names)} names, of which the nearest are {', '.join(some)}."

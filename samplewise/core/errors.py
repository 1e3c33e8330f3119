"""The one exception of this library."""

from __future__ import annotations


class SamplewiseError(ValueError):
    """The one exception of this library: which argument, what was expected, what was got, what to do.

    >>> raise SamplewiseError("r", expected="a number other than 0", got=0, remedy="Use uniform() for no tilt.")
    Traceback (most recent call last):
    samplewise.core.errors.SamplewiseError: r: expected a number other than 0, got 0. Use uniform() for no tilt.
    """

    def __init__(self, argument: str, *, expected: str, got: object, remedy: str) -> None:
        super().__init__(f"{argument}: expected {expected}, got {got}. {remedy}")
        self.argument, self.expected, self.got, self.remedy = argument, expected, got, remedy


def missing_extra(module: str, extra: str, purpose: str) -> SamplewiseError:
    """The error for an optional dependency that is not installed."""
    return SamplewiseError(
        purpose, expected=f"the package {module}", got="not installed",
        remedy=f'Install it: pip install "samplewise[{extra}]".',
    )  # fmt: skip

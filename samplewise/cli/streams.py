"""What a command survives outside its work: readers that leave, terminals that close, text that would control one."""

from __future__ import annotations

import errno
import io
import os
import re
import signal
import stat
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stderr, redirect_stdout, suppress
from types import FrameType
from typing import Any

_ENDING = [getattr(signal, name) for name in ("SIGTERM", "SIGHUP") if hasattr(signal, name)]


def visible(text: str) -> str:
    """The text with control characters escaped, except line ends: text from a file must not control the terminal."""
    return re.sub(r"[\x00-\x08\x0b-\x1f\x7f-\x9f]", lambda found: repr(found[0])[1:-1], text)


class Stream:
    """A standard stream that ends no work: once nobody reads it (`| head`), what is written to it is lost.

    shows: whether control characters are escaped; bars are drawn with some.
    """

    def __init__(self, stream: Any, *, shows: bool) -> None:
        self._stream, self._shows = stream, shows

    def write(self, text: str) -> int:
        """Write the text; how long it was."""
        with self._whoever_reads():
            self._stream.write(visible(text) if self._shows else text)
        return len(text)

    def flush(self) -> None:
        """Write what is in the buffer."""
        with self._whoever_reads():
            self._stream.flush()

    @contextmanager
    def _whoever_reads(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            if not self._is_left(error):
                raise
            with suppress(OSError):  # a stream of Python's own has no number
                nowhere = os.open(os.devnull, os.O_WRONLY)
                os.dup2(nowhere, self._stream.fileno())
                os.close(nowhere)

    def _is_left(self, error: OSError) -> bool:
        """By the reader of a pipe, or by a terminal that was closed, which is an input/output error."""
        if error.errno != errno.EIO:
            return error.errno == errno.EPIPE
        return stat.S_ISCHR(os.fstat(self._stream.fileno()).st_mode)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)


@contextmanager
def lasting_streams() -> Iterator[None]:
    """stdout and stderr as `Stream`; stdout shows control characters, which names of files and fields may hold."""
    out, err = (None if each is None else Stream(each, shows=each is sys.stdout) for each in (sys.stdout, sys.stderr))
    with redirect_stdout(out), redirect_stderr(err):
        try:
            yield
        finally:
            for each in (out, err):
                if each is not None:
                    each.flush()


@contextmanager
def ended_by_signals() -> Iterator[None]:
    """SIGTERM, and SIGHUP where nohup does not keep it off, end the block as Ctrl-C does."""
    if threading.current_thread() is not threading.main_thread():  # only there can they be handled
        yield
        return
    own = os.getpid()

    def end(number: int, frame: FrameType | None) -> None:
        if os.getpid() == own:
            raise KeyboardInterrupt
        signal.signal(number, signal.SIG_DFL)  # in a child, which has the handler from its parent
        signal.raise_signal(number)

    numbers = [number for number in _ENDING if signal.getsignal(number) is signal.SIG_DFL]
    for number in numbers:
        signal.signal(number, end)
    try:
        yield
    finally:
        for number in numbers:
            signal.signal(number, signal.SIG_DFL)


def fill_closed() -> None:
    """Open standard streams that are closed (`>&-`): else a file that is written gets their number and output."""
    for number in range(3):
        try:
            os.fstat(number)
        except OSError:
            os.open(os.devnull, os.O_RDWR)  # takes the lowest number that is free: this one


def spell_out_letters() -> None:
    """Print letters that the terminal's encoding lacks as escapes, where Python would end with an error."""
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="backslashreplace")

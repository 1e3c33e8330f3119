"""Progress where somebody watches and where nobody does: a terminal, a pipe, a notebook."""

import io
import sys
import types

import pytest

from samplewise.core import progress


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


@pytest.fixture
def clock(monkeypatch):
    now = types.SimpleNamespace(time=0.0)
    monkeypatch.setattr(progress, "time", types.SimpleNamespace(monotonic=lambda: now.time))
    return now


def seen(monkeypatch, stream, clock, seconds: float) -> str:
    """What 100 pieces of work in so many seconds write."""
    monkeypatch.setattr(sys, "stderr", stream)
    with progress.Progress("scoring", 100, unit="windows") as bar:
        for done in range(1, 101):
            clock.time = seconds * done / 100
            bar.advance(1, f"loss {done / 100:.2f}")
    return stream.getvalue()


def test_a_log_file_has_a_line_every_half_minute(monkeypatch, clock):
    lines = seen(monkeypatch, io.StringIO(), clock, 100).splitlines()
    assert lines == [
        "scoring  30% 30/100 windows  30 s  loss 0.30",
        "scoring  60% 60/100 windows  60 s  loss 0.60",
        "scoring  90% 90/100 windows  90 s  loss 0.90",
    ]


def test_short_work_is_silent_in_a_log_file(monkeypatch, clock):
    assert seen(monkeypatch, io.StringIO(), clock, 20) == ""


def test_a_terminal_has_a_bar_that_goes_away(monkeypatch, clock):
    text = seen(monkeypatch, Terminal(), clock, 100)
    assert "\r" in text
    assert "\n" not in text
    assert text.endswith("\r")


def test_a_notebook_is_watched(monkeypatch):
    class ZMQInteractiveShell:
        pass

    monkeypatch.setitem(sys.modules, "IPython", types.SimpleNamespace(get_ipython=ZMQInteractiveShell))
    assert progress.watched(io.StringIO())
    monkeypatch.setitem(sys.modules, "IPython", types.SimpleNamespace(get_ipython=lambda: None))
    assert not progress.watched(io.StringIO())


def test_bars_of_other_libraries_are_not_in_a_log_file_but_their_words_are(monkeypatch):
    from tqdm import tqdm

    for stream, bars in ((io.StringIO(), False), (Terminal(), True)):
        monkeypatch.setattr(sys, "stderr", stream)
        with progress.bars_only_if_watched():
            for _ in tqdm(range(3), desc="dequantizing", mininterval=0):
                pass
            print("a warning", file=sys.stderr)
        assert ("dequantizing" in stream.getvalue()) is bars
        assert stream.getvalue().endswith("a warning\n")
        assert bars or stream.getvalue() == "a warning\n"

"""Readers that leave, terminals that close, signals that end, and text that would control a terminal."""

import errno
import io
import os
import subprocess
import sys
import tempfile

import pytest
import world
from scored_texts import write_scored_texts

from samplewise.cli.streams import Stream

HOSTILE = "a\x1b]0;owned\x07\x1b[31m\x9b2J\r\nkept all.jsonl"
ROWS = [(HOSTILE, 1.0 + i, 8, f"text {i}") for i in range(20)]


def test_what_a_command_prints_does_not_control_the_terminal(tmp_path):
    scores = write_scored_texts(tmp_path / "scores", ROWS)
    out = tmp_path / "ids.txt"
    done = world.samplewise("select", scores, "--out", out, "--ids", "--rule", "band(drop_top=0.2)")
    assert done.returncode == 0, done.stderr
    assert r"a\x1b]0;owned\x07\x1b[31m\x9b2J\r\nkept all.jsonl:" in done.stdout
    assert not [each for each in done.stdout if not each.isprintable() and each != "\n"]


def test_figures_on_stdout_leave_stderr_as_harmless(tmp_path):
    scores = write_scored_texts(tmp_path / "scores", ROWS)
    words = ("select", scores, "--out", tmp_path / "ids.txt", "--ids", "--rule", "band(drop_top=0.2)", "--json", "-")
    done = world.samplewise(*words)
    assert r"\x1b]0;owned" in done.stderr
    assert "\x1b" not in done.stderr


def left_by_its_reader(*words: object) -> subprocess.CompletedProcess[str]:
    reader, writer = os.pipe()
    os.close(reader)
    command = [sys.executable, "-m", "samplewise", *map(str, words)]
    done = subprocess.run(
        command, stdout=writer, stderr=subprocess.PIPE, text=True, cwd=world.ROOT, env=world.ENVIRONMENT
    )
    os.close(writer)
    return done


def test_a_reader_that_has_enough_is_no_error():
    done = left_by_its_reader("rules")  # as in `samplewise rules | head -1`
    assert (done.returncode, done.stderr) == (0, "")


@pytest.mark.slow
def test_a_closed_stdout_is_no_file(tmp_path):
    scores = write_scored_texts(tmp_path / "scores", ROWS)
    words = f"select {scores} --out {tmp_path / 'ids.txt'} --ids --above 5"
    shell = f"exec {sys.executable} -m samplewise {words} >&- 2>&-"
    subprocess.run(["sh", "-c", shell], check=True, cwd=world.ROOT, env=world.ENVIRONMENT)
    lines = (tmp_path / "ids.txt").read_text().splitlines()
    assert len(lines) == 16
    assert all(line.lstrip("-").isdigit() for line in lines)


class Gone(io.StringIO):
    def __init__(self, number: int) -> None:
        super().__init__()
        self.number = number

    def write(self, text: str) -> int:
        raise OSError(self.number, os.strerror(self.number))


def test_work_goes_on_without_a_reader_and_ends_on_a_full_disk():
    assert Stream(Gone(errno.EPIPE), shows=True).write("a line") == 6
    with pytest.raises(OSError, match="No space left"):
        Stream(Gone(errno.ENOSPC), shows=True).write("a line")


def test_a_terminal_that_was_closed_is_written_no_more():
    """What a terminal says after its window is gone is an input/output error; a file's on a bad disk stays one."""
    ours, theirs = os.openpty()
    os.close(ours)
    with os.fdopen(theirs, "w") as terminal:
        stream = Stream(terminal, shows=False)
        stream.write("a line\n")
        stream.flush()
        stream.write("another\n")
        stream.flush()


@pytest.mark.parametrize(
    "words", [("select", "--ids", "--above", "5", "--out", "i.txt"), ("report", "--out", "r.html")]
)
def test_without_a_folder_for_temporary_files_it_says_so(tmp_path, monkeypatch, words):
    scores = write_scored_texts(tmp_path / "scores", ROWS)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(tempfile, "tempdir", None)
    monkeypatch.setattr(tempfile, "_candidate_tempdir_list", lambda: ["/proc/none"])
    done = world.samplewise(words[0], scores, *words[1:])
    assert done.returncode == 1
    assert done.stderr.startswith("samplewise: TMPDIR: expected a folder for temporary files that can be written")
    assert not (tmp_path / words[-1]).exists()

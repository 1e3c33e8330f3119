"""Files written whole or not at all, and what killed writers leave."""

import os
import subprocess
import sys

import pytest
import world
from fake_scores import write_fake_scores

from samplewise.core.replaced import replaced, write_whole

WRITES_AND_IS_KILLED = """
import os, signal, sys
from pathlib import Path
from samplewise.core.replaced import replaced
with replaced(Path(sys.argv[1])) as temporary:
    temporary.write_bytes(b"half")
    os.kill(os.getpid(), signal.SIGKILL)
"""


def test_a_failure_leaves_what_was_there(tmp_path):
    path = tmp_path / "a.json"
    write_whole(path, b"old")
    with pytest.raises(ZeroDivisionError), replaced(path) as temporary:
        temporary.write_bytes(b"%d" % (1 // 0))
    assert path.read_bytes() == b"old"
    assert [each.name for each in tmp_path.iterdir()] == ["a.json"]


def test_the_next_writer_takes_away_what_a_killed_one_left(tmp_path):
    path = tmp_path / "kept.jsonl"
    subprocess.run([sys.executable, "-c", WRITES_AND_IS_KILLED, path], check=False, env=world.ENVIRONMENT)
    assert len(list(tmp_path.iterdir())) == 1
    (tmp_path / ".kept.jsonl.note").write_text("no temporary file")
    write_whole(path, b"whole")
    assert {each.name for each in tmp_path.iterdir()} == {"kept.jsonl", ".kept.jsonl.note"}
    assert path.read_bytes() == b"whole"


def test_a_writer_that_lives_keeps_its_file(tmp_path):
    path = tmp_path / "a"
    with replaced(path) as first:
        first.write_bytes(b"1")
        first = first.rename(tmp_path / ".a.1")  # as another process would name its own
        write_whole(path, b"2")
        assert first.read_bytes() == b"1"
        first.rename(tmp_path / f".a.{os.getpid()}")
    assert path.read_bytes() == b"1"


@pytest.mark.parametrize("name", ["kept.txt", "kept.parquet"])
def test_select_sweeps_before_it_writes(tmp_path, name):
    scores = write_fake_scores(tmp_path / "scores", 50)
    for left in (f".{name}.4711", f".{name}.statement.json.4711"):
        (tmp_path / left).write_text("half")
    done = world.samplewise("select", scores, "--out", tmp_path / name, "--ids", "--above", "2")
    assert done.returncode == 0, done.stderr
    assert {each.name for each in tmp_path.iterdir()} == {"scores", name, f"{name}.statement.json"}

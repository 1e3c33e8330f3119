"""Files written whole or not at all, and what killed writers leave."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
import world
from fake_scores import write_fake_scores

from samplewise.core.errors import SamplewiseError
from samplewise.core.replaced import _stem, replaced, write_whole

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


def test_a_link_stays_and_what_it_leads_to_is_replaced(tmp_path):
    (tmp_path / "store").mkdir()
    link = tmp_path / "kept.json"
    link.symlink_to("store/real.json")
    for data in (b"first", b"second"):
        write_whole(link, data)
        assert link.is_symlink()
        assert (tmp_path / "store" / "real.json").read_bytes() == data
    assert len(list((tmp_path / "store").iterdir())) == 1


def test_a_pipe_gets_what_is_written_and_a_device_is_not_replaced(tmp_path):
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    reader = os.open(pipe, os.O_RDONLY | os.O_NONBLOCK)
    write_whole(pipe, b"whole")
    assert os.read(reader, 9) == b"whole"
    os.close(reader)
    assert pipe.is_fifo()
    with pytest.raises(SamplewiseError, match="the name of a file, got a device or a pipe"), replaced(pipe):
        pass
    with pytest.raises(SamplewiseError, match="got a folder"), replaced(tmp_path):
        pass


def test_a_full_device_is_one_sentence(tmp_path):
    scores = write_fake_scores(tmp_path / "scores", 50)
    words = ("select", scores, "--out", tmp_path / "kept.txt", "--ids", "--above", "2", "--json", "/dev/full")
    done = world.samplewise(*words)
    assert done.returncode == 1
    assert "expected room on the disk, got none left" in done.stderr
    assert done.stderr.count("\n") == 1
    assert Path("/dev/full").is_char_device()


@pytest.mark.parametrize("length", [255, 240])
def test_a_name_of_any_length_is_written(tmp_path, length):
    path = tmp_path / ("n" * length)
    (tmp_path / f"{_stem(path)}4711").write_text("half, of a writer that was killed")
    write_whole(path, b"whole")
    assert [each.name for each in tmp_path.iterdir()] == [path.name]


@pytest.mark.parametrize(("umask", "mode"), [(0o002, 0o664), (0o077, 0o600)])
def test_the_umask_says_who_may_read_and_write(tmp_path, umask, mode):
    before = os.umask(umask)
    try:
        write_whole(tmp_path / "a", b"whole")
        with replaced(tmp_path / "b"):
            pass
    finally:
        os.umask(before)
    assert {path.stat().st_mode & 0o777 for path in tmp_path.iterdir()} == {mode}

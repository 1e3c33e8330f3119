"""A corpus that somebody writes to while it is read: no shard of it is kept, and the command says so."""

import os

import pytest
import world
from scoring import digests, score

from samplewise.core.errors import SamplewiseError
from samplewise.corpus.reader import Reader

CHANGES = {
    "grows": lambda path: path.write_text(2 * path.read_text()),
    "shrinks": lambda path: os.truncate(path, path.stat().st_size // 2),
    "is replaced": lambda path: (path.with_suffix(".new").write_text("{}\n"), path.with_suffix(".new").replace(path)),
    "is gone": lambda path: path.unlink(),
}


def after_blocks(monkeypatch, number, change):
    """Do it once so many blocks have been read."""
    whole, read = Reader.block, []

    def block(self, most_bytes):
        found = whole(self, most_bytes)
        read.append(found)
        if len(read) == number:
            change()
        return found

    monkeypatch.setattr(Reader, "block", block)


@pytest.mark.parametrize("how", CHANGES)
def test_no_shard_of_a_changed_file_is_written(tiny_model, corpus, tmp_path, monkeypatch, how):
    data = tmp_path / "data.jsonl"
    data.write_text(corpus.read_text())
    score(tiny_model, data, tmp_path / "plain")
    with monkeypatch.context() as patch:
        after_blocks(patch, 3, lambda: CHANGES[how](data))  # the first is only looked at
        with pytest.raises(SamplewiseError, match=r"data\.jsonl: expected a file that nobody writes to while it is"):
            score(tiny_model, data, tmp_path / "out")
    assert len(list((tmp_path / "out").glob("*.parquet"))) == 2
    assert not (tmp_path / "out" / "manifest.json").exists()
    if how != "is gone":
        with pytest.raises(SamplewiseError, match="where corpus was"):
            score(tiny_model, data, tmp_path / "out")
    data.write_text(corpus.read_text())  # as it was: what was finished stands
    score(tiny_model, data, tmp_path / "out")
    assert digests(tmp_path / "out") == digests(tmp_path / "plain")


def test_a_file_of_which_only_the_time_changes_is_resumed(tiny_model, corpus, tmp_path, monkeypatch):
    data = tmp_path / "data.jsonl"
    data.write_text(corpus.read_text())
    with monkeypatch.context() as patch:
        after_blocks(patch, 3, lambda: os.utime(data, (1, 1)))
        with pytest.raises(SamplewiseError, match="run the same command again"):
            score(tiny_model, data, tmp_path / "out")
    assert score(tiny_model, data, tmp_path / "out").rows_in == 120


def test_texts_of_a_selection_are_of_one_state_of_the_corpus(tiny_model, corpus, tmp_path, monkeypatch):
    data = tmp_path / "data.jsonl"
    data.write_text(corpus.read_text())
    score(tiny_model, data, tmp_path / "scores")
    monkeypatch.setattr("samplewise.corpus.reread.BYTES", 1000)
    after_blocks(monkeypatch, 2, lambda: data.write_text(corpus.read_text().replace("w3", "w4")))
    done = world.samplewise("select", tmp_path / "scores", "--above", "1", "--out", tmp_path / "kept.jsonl")
    assert done.returncode == 1
    assert "data.jsonl: expected a file that nobody writes to while it is read" in done.stderr
    assert not (tmp_path / "kept.jsonl").exists()


@pytest.mark.parametrize("how", CHANGES)
def test_no_record_is_lost_between_the_two_passes_of_dedup(tmp_path, monkeypatch, how):
    from samplewise.corpus import dedup

    data = world.save_corpus(tmp_path / "data.jsonl")
    first = dedup.Deduplication.first_pass

    def passed(self, listed):
        found = first(self, listed)
        CHANGES[how](data)
        return found

    monkeypatch.setattr(dedup.Deduplication, "first_pass", passed)
    done = world.samplewise("dedup", data, "--out", tmp_path / "out.jsonl")
    assert done.returncode == 1
    assert "expected" in done.stderr
    assert "unexpected" not in done.stderr
    assert not (tmp_path / "out.jsonl").exists()

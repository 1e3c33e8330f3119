"""Damaged folders of scores: found before anything is made of them, and shards read whole once only."""

import json
import os

import fsspec
import pytest
import world
from fake_scores import write_fake_scores
from fsspec.implementations.memory import MemoryFileSystem

from samplewise.core.errors import SamplewiseError
from samplewise.corpus import open_scores
from samplewise.corpus import verify as module


@pytest.fixture
def folder(tmp_path):
    return write_fake_scores(tmp_path / "scores", 300, shard_rows=100, added=("reference",))


@pytest.fixture
def read(monkeypatch):
    """The names of the files that are read whole, as they are."""
    names, real = [], module._digest
    monkeypatch.setattr(module, "_digest", lambda place, name, bar: names.append(name) or real(place, name, bar))
    return names


def flip(path, at: int) -> None:
    data = bytearray(path.read_bytes())
    data[at] ^= 0x10
    path.write_bytes(data)


@pytest.mark.parametrize("shard", ["shard-00002.parquet", "columns/reference/shard-00001.parquet"])
@pytest.mark.parametrize("at", [0, 40, 1000, -40, -1])
def test_a_flipped_bit_anywhere_stops_select_and_report(folder, tmp_path, shard, at):
    flip(folder / shard, at)
    for command, out in (("select", "kept.parquet"), ("report", "page.html")):
        more = ("--rule", "top_k(share=0.5)", "--ids") if command == "select" else ()
        done = world.samplewise(command, folder, "--out", tmp_path / out, *more)
        assert done.returncode == 1
        assert f"a changed {shard} in {folder}" in done.stderr
        assert not (tmp_path / out).exists()


def test_each_file_is_read_once_and_again_when_it_was_written_anew(folder, read):
    open_scores(folder)
    assert len(read) == 6
    open_scores(folder)
    assert len(read) == 6
    path = folder / "shard-00001.parquet"
    path.write_bytes(path.read_bytes())
    open_scores(folder)
    assert read[6:] == ["shard-00001.parquet"]


def test_scores_at_a_url_that_cannot_be_written_are_verified_each_time(folder, read, monkeypatch):
    fsspec.filesystem("memory").put(str(folder), "/not-ours", recursive=True)

    def refuse(*words, **more):
        raise PermissionError("Access Denied")

    monkeypatch.setattr(MemoryFileSystem, "pipe_file", refuse)
    for times in (1, 2):
        assert len(open_scores("memory://not-ours")) == 300
        assert len(read) == 6 * times


def test_a_time_set_back_hides_nothing(folder):
    open_scores(folder)
    path = folder / "shard-00001.parquet"
    times = path.stat()
    flip(path, 99)
    os.utime(path, ns=(times.st_atime_ns, times.st_mtime_ns))
    with pytest.raises(SamplewiseError, match="a changed shard-00001"):
        open_scores(folder)
    with pytest.raises(SamplewiseError, match="a changed shard-00001"):
        open_scores(folder)  # what is wrong is not remembered as right


def test_checksums_can_be_left_unread(folder, tmp_path, read):
    done = world.samplewise("select", folder, "--out", tmp_path / "a.txt", "--ids", "--above", "3", "--no-verify")
    assert done.returncode == 0
    assert not read
    assert world.samplewise("report", folder, "--out", tmp_path / "a.html", "--no-verify").returncode == 0
    assert not read
    assert not (folder / ".verified.json").exists()


@pytest.mark.parametrize("text", ["", "[]", "{", '{"shard-00000.parquet": 1}', "[" * 10**5])
def test_a_damaged_memory_only_costs_the_reading(folder, read, text):
    (folder / ".verified.json").write_text(text)
    open_scores(folder)
    assert len(read) == 6


def test_a_folder_that_cannot_be_written_is_still_read(folder, monkeypatch):
    def refuse(self, name, data):
        raise PermissionError(13, "Permission denied", name)

    monkeypatch.setattr("samplewise.corpus.place.Place.write", refuse)
    assert len(open_scores(folder)) == 300


def damaged(values: dict, path: tuple, value: object) -> dict:
    """A copy of a manifest with one value put in, or taken away (None is put in as null, ... takes away)."""
    copy = json.loads(json.dumps(values))
    place = copy
    for key in path[:-1]:
        place = place[key]
    if value is ...:
        del place[path[-1]]
    else:
        place[path[-1]] = value
    return copy


PLACES = [
    ("rows_in",), ("rows_scored",), ("windows",), ("tokens",), ("shards",), ("columns",), ("fingerprints",),
    ("reasons",), ("made",), ("schema",), ("shards", 0), ("shards", 0, "name"), ("shards", 0, "rows"),
    ("shards", 0, "bytes"), ("shards", 0, "sha256"), ("columns", "loss"), ("columns", "id"), ("made", "data"),
]  # fmt: skip
VALUES = [..., None, -1, 1.5, 10**30, "", "x", "../x", [], {}, [1], {"a": 1}, True]


@pytest.mark.parametrize("place", PLACES, ids=lambda place: ".".join(map(str, place)))
@pytest.mark.parametrize("inside", ["", "columns/reference/"])
def test_no_manifest_ends_in_an_unexpected_error(folder, tmp_path, place, inside):
    file = folder / f"{inside}manifest.json"
    whole = json.loads(file.read_text())
    for value in VALUES:
        if (inside and place == ("columns", "loss")) or (value is not ... and _same_kind(place, value)):
            continue
        file.write_text(json.dumps(damaged(whole, place, value)))
        try:
            open_scores(folder)
        except SamplewiseError:
            continue
        assert place[0] in ("fingerprints", "reasons", "made"), (place, value)
        done = world.samplewise(
            "select", folder, "--out", tmp_path / "kept.txt", "--ids", "--rule", 'by("excess", top_k(share=0.5))'
        )
        assert "unexpected" not in done.stderr, (place, value, done.stderr)
        (tmp_path / "kept.txt").unlink(missing_ok=True)


def _same_kind(place: tuple, value: object) -> bool:
    """Values that are right there."""
    return (place[-1] in ("fingerprints", "reasons", "made") and value == {}) or (place == ("made", "data") and value)


def test_the_report_is_written_beside_its_scores_not_into_them(folder, tmp_path):
    for inside in ("page.html", "columns/page.html"):
        done = world.samplewise("report", folder, "--out", folder / inside)
        assert done.returncode == 1
        assert "outside the scores" in done.stderr
        assert not (folder / inside).exists()


@pytest.mark.parametrize("memory", ["-2GB", "0", "2", "nan", "inf", "1e3GB", "2XB", "GB", "9" * 25 + "TB", "15MB"])
def test_memory_is_a_number_of_bytes_to_work_with(folder, tmp_path, memory):
    for command, out in (("select", "kept.txt"), ("report", "page.html")):
        more = ("--above", "1", "--ids") if command == "select" else ()
        done = world.samplewise(command, folder, "--out", tmp_path / out, f"--memory={memory}", *more)
        assert done.returncode == 1
        assert "--memory: expected bytes" in done.stderr


def test_shards_that_are_no_parquet_are_named_where_checksums_are_not_read(folder, tmp_path):
    for data in (b"", b"PAR1", b"x" * 500):
        shard = folder / "shard-00001.parquet"
        shard.write_bytes(data.ljust(shard.stat().st_size, b"\0"))
        for command, out in (("select", "kept.parquet"), ("report", "page.html")):
            more = ("--rule", "top_k(share=0.5)", "--ids") if command == "select" else ()
            done = world.samplewise(command, folder, "--out", tmp_path / out, "--no-verify", *more)
            assert done.returncode == 1
            assert "Parquet files as samplewise score writes them" in done.stderr

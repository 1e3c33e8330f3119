"""Nothing is lost: every record is scored or quarantined with its place and reason, and the counts add up."""

import gzip
import json
import os
from pathlib import Path

import numpy as np
import pytest
import zstandard
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from scoring import digests, score, table

from samplewise.core.errors import SamplewiseError
from samplewise.corpus import open_scores
from samplewise.data import records


def lines(folder) -> list[dict]:
    path = Path(folder) / "quarantine.jsonl"
    return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []


def written(path: Path, *rows: bytes) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(b"".join(row + b"\n" for row in rows))
    return path


GOOD = [json.dumps({"text": f"w1 w2 w3 w{i} w5 w6"}).encode() for i in range(30)]
BAD = {
    b'{"text": "w1': "corrupt JSON",
    b'{"text": 5}': "no text",
    b'{"body": "w1 w2"}': "missing field",
    b"[1, 2]": "no JSON object",
    b'{"text": "w1 \xe9 w2"}': "bad encoding",
    b'{"text": "w1\\u0000w2"}': "binary data",
    b'{"text": "w1 \\ud800"}': "bad encoding",
    b'{"text": "  "}': "empty",
}


def test_every_kind_of_damage_is_listed_with_its_place(tiny_model, tmp_path):
    rows = [row for good, bad in zip(GOOD, BAD, strict=False) for row in (good, bad)]
    manifest = score(tiny_model, written(tmp_path / "data" / "a.jsonl", *rows), tmp_path / "out")
    found = lines(tmp_path / "out")
    assert [(each["source"], each["line"], each["row"], each["reason"]) for each in found] == [
        ("a.jsonl", 2 * i + 2, 2 * i + 1, reason) for i, reason in enumerate(BAD.values())
    ]
    assert (manifest.rows_in, manifest.rows_scored, manifest.rows_quarantined) == (16, 8, 8)
    assert manifest.reasons["bad encoding"] == 2
    assert table(tmp_path / "out")["row"].to_pylist() == list(range(0, 16, 2))


def test_broken_files_cost_what_is_broken(tiny_model, tmp_path):
    data = tmp_path / "data"
    text = b"".join(row + b"\n" for row in GOOD)
    written(data / "fine.jsonl", *GOOD)
    (data / "cut.jsonl.gz").write_bytes(gzip.compress(text)[:-20])
    (data / "cut.jsonl.zst").write_bytes(zstandard.compress(text * 50)[:-9])
    (data / "no.jsonl.gz").write_bytes(b"no gzip at all")
    (data / "no.parquet").write_bytes(b"PAR1 no parquet")
    (data / "nul.txt").write_bytes("w1 w2".encode("utf-16-le"))
    (data / "notes.md").write_bytes(b"another kind of file")
    manifest = score(tiny_model, data, tmp_path / "out")
    reasons = {each["source"]: each["reason"] for each in lines(tmp_path / "out")}
    assert reasons == {
        "cut.jsonl.gz": "truncated or corrupt file", "cut.jsonl.zst": "truncated or corrupt file",
        "no.jsonl.gz": "truncated or corrupt file", "no.parquet": "truncated or corrupt file",
        "nul.txt": "binary data",
    }  # fmt: skip
    assert manifest.rows_in == manifest.rows_scored + 5
    assert set(table(tmp_path / "out")["source"].to_pylist()) >= {"fine.jsonl"}
    assert manifest.rows_scored >= 30


def test_a_link_to_nothing_is_listed(tiny_model, tmp_path):
    data = tmp_path / "data"
    written(data / "fine.jsonl", *GOOD)
    (data / "gone.jsonl").symlink_to(tmp_path / "nowhere")
    manifest = score(tiny_model, data, tmp_path / "out")
    assert [(each["source"], each["reason"]) for each in lines(tmp_path / "out")] == [("gone.jsonl", "unreadable file")]
    assert (manifest.rows_in, manifest.rows_scored) == (31, 30)


def test_a_folder_that_cannot_be_written_is_said(tiny_model, tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(SamplewiseError, match="--out: expected a folder that can be written"):
        score(tiny_model, written(tmp_path / "data.jsonl", *GOOD), tmp_path / "file" / "out")


def test_a_folder_whose_name_is_no_utf8_is_refused_by_name(tiny_model, tmp_path):
    """Before anything is scored: DuckDB could not open what was written there. The corpus itself may be anywhere."""
    data = written(tmp_path / os.fsdecode(b"d\xe9") / "a.jsonl", *GOOD)
    with pytest.raises(SamplewiseError, match=r"in UTF-8, got .*o\\udce9ut"):
        score(tiny_model, data.parent, tmp_path / os.fsdecode(b"o\xe9ut"))
    assert score(tiny_model, data.parent, tmp_path / "out").rows_scored == 30
    assert [path.name for path in tmp_path.iterdir() if path.name.startswith("o")] == ["out"]


def test_rows_of_a_datasets_name(tiny_model, tmp_path, monkeypatch):
    import datasets

    rows = [json.loads(row) for row in GOOD] + [{"text": None}]
    monkeypatch.setattr(datasets, "load_dataset", lambda *a, **k: datasets.Dataset.from_list(rows))
    manifest = score(tiny_model, "org/name", tmp_path / "out", split="test", shard_bytes=100)
    assert (manifest.rows_in, manifest.rows_scored, manifest.reasons) == (31, 30, {"no text": 1})
    assert set(table(tmp_path / "out")["source"].to_pylist()) == {"org/name/test"}
    assert score(tiny_model, "org/name", tmp_path / "some", split="test", limit=7).rows_in == 7


def test_a_bomb_costs_its_record_and_no_more_memory_than_the_longest(tiny_model, tmp_path, monkeypatch):
    for module in ("records", "formats"):
        monkeypatch.setattr(f"samplewise.data.{module}.LONGEST", 2**16)
    data = tmp_path / "data"
    data.mkdir()
    bomb = b'{"text": "' + b"w1 " * 2**20 + b'"}\n'
    (data / "bomb.jsonl.gz").write_bytes(gzip.compress(GOOD[0] + b"\n" + bomb + GOOD[1] + b"\n"))
    (data / "bomb.txt.zst").write_bytes(zstandard.compress(b"w1 " * 2**22))
    manifest = score(tiny_model, data, tmp_path / "out")
    assert [(each["source"], each["reason"]) for each in lines(tmp_path / "out")] == [
        ("bomb.jsonl.gz", "too long"), ("bomb.txt.zst", "too long"),
    ]  # fmt: skip
    assert manifest.rows_scored == 2
    assert records.LONGEST == 2**16


@pytest.mark.slow
def test_a_long_document_beside_short_ones(tiny_model, tmp_path):
    """One line of 1 MB: windows by the thousand, a shard of its own size, its neighbours as ever."""
    long = json.dumps({"text": "aa bb cc dd " * 90_000}).encode()
    data = written(tmp_path / "data.jsonl", GOOD[0], long, GOOD[1])
    manifest = score(tiny_model, data, tmp_path / "out", max_length=128, batch_tokens=2**14, shard_bytes=10**5)
    found = table(tmp_path / "out")
    assert sum(found["n_tokens"].to_pylist()) == 360_000 + 12
    assert sum(found["n_bytes"].to_pylist()) == len("aa bb cc dd ") * 90_000 + 17 * 2
    assert found["row"].to_pylist()[:2] == [0, 1]
    assert found["row"].to_pylist()[-1] == 2
    assert (manifest.rows_in, manifest.rows_scored) == (3, 3)


def test_strict_stops_and_names_the_place(tiny_model, tmp_path):
    data = written(tmp_path / "data.jsonl", *GOOD[:5], b'{"text": "w1', *GOOD[5:])
    with pytest.raises(SamplewiseError, match=r"data\.jsonl, line 6.*--strict.*corrupt JSON"):
        score(tiny_model, data, tmp_path / "out", strict=True)
    assert score(tiny_model, data, tmp_path / "out").rows_quarantined == 1


def test_a_loss_that_is_not_finite_quarantines_its_record(tiny_model, tmp_path, monkeypatch):
    import samplewise.corpus.losses as losses

    token_losses = losses.token_losses

    def poisoned(model, batch):
        found = token_losses(model, batch)()
        owner = np.repeat(np.arange(len(batch)), [piece.n_tokens for piece in batch])
        bad = [i for i, piece in enumerate(batch) if piece.row == 3 and piece.window == 1]
        return lambda: np.where(np.isin(owner, bad), np.float32("inf"), found)

    monkeypatch.setattr(losses, "token_losses", poisoned)
    text = json.dumps({"text": "w1 w2 w3 w4 w5 " * 20}).encode()
    manifest = score(tiny_model, written(tmp_path / "data.jsonl", *[text] * 5), tmp_path / "out")
    assert [(each["row"], each["reason"]) for each in lines(tmp_path / "out")] == [(3, "loss not finite")]
    assert set(table(tmp_path / "out")["row"].to_pylist()) == {0, 1, 2, 4}
    assert (manifest.rows_in, manifest.rows_scored) == (5, 4)


RECORD = st.one_of(
    st.text(st.characters(max_codepoint=0x2FFFF), max_size=40).map(lambda t: json.dumps({"text": t}).encode()),
    st.sampled_from([*BAD, *GOOD, b"", b" ", b"\xff\xfe", b'{"text": null}', b"nul\0l", b'{"text": "</s><s>"}']),
    st.binary(max_size=30).map(lambda data: data.replace(b"\n", b"")),
)
SUFFIX = st.sampled_from([".jsonl", ".jsonl.gz", ".jsonl.zst", ".txt", ".json", ".csv", ".parquet", ".txt.gz"])


@given(st.lists(st.tuples(SUFFIX, st.lists(RECORD, max_size=8), st.integers(0, 3)), min_size=1, max_size=4), st.data())
@settings(max_examples=15, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_counts_add_up_whatever_the_files_hold(tiny_model, tmp_path_factory, files, data):
    root = tmp_path_factory.mktemp("damaged")
    for i, (suffix, rows, cut) in enumerate(files):
        content = b"\n".join(rows) + b"\n"
        packed = gzip.compress(content) if suffix.endswith(".gz") else content
        packed = zstandard.compress(content) if suffix.endswith(".zst") else packed
        written(root / "data" / f"{i}{suffix}")
        (root / "data" / f"{i}{suffix}").write_bytes(packed[: len(packed) * (4 - cut) // 4] if cut else packed)
    (root / "data" / "sound.jsonl").write_bytes(GOOD[0])
    size = data.draw(st.sampled_from([20, 200, 10**6]))
    manifest = score(tiny_model, root / "data", root / "out", shard_bytes=size)
    found = table(root / "out")
    places = set(zip(found["source"].to_pylist(), found["row"].to_pylist(), strict=True))
    quarantined = [(each["source"], each["row"]) for each in lines(root / "out")]
    assert len(places) == manifest.rows_scored
    assert len(quarantined) == len(set(quarantined)) == manifest.rows_quarantined
    assert places.isdisjoint(quarantined)
    assert manifest.rows_in == manifest.rows_scored + manifest.rows_quarantined
    assert ("sound.jsonl", 0) in places
    assert len(set(found["id"].to_pylist())) == len(open_scores(root / "out"))
    once = digests(root / "out")
    score(tiny_model, root / "data", root / "out", shard_bytes=size)
    assert digests(root / "out") == once


@pytest.mark.parametrize(
    ("rows", "given", "match"),
    [
        ([b'{"content": "w1 w2"}'] * 5, {}, r"5 records of which nothing.*\(5 missing field; first: a.jsonl.*--text-f"),
        ([b'{"text": "w1"'] * 2 + [b'{"text": ""}'], {}, r"3 records.*2 corrupt JSON, 1 empty"),
        ([b'{"text": "w1 w2"}'] * 2, {"kind": "instructions", "template": "plain"}, r"2 no known form.*--kind text"),
        ([b""], {}, r"at least one record, got none"),
    ],
)  # fmt: skip
def test_a_scoring_of_nothing_fails_and_leaves_the_folder_free(tiny_model, tmp_path, rows, given, match):
    data = written(tmp_path / "data" / "a.jsonl", *rows)
    with pytest.raises(SamplewiseError, match=match):
        score(tiny_model, data, tmp_path / "out", **given)
    assert not (tmp_path / "out").exists()
    written(data, *GOOD)
    assert score(tiny_model, data, tmp_path / "out").rows_scored == 30


def test_a_scoring_of_nothing_exits_with_1(tiny_model, tmp_path, capsys, monkeypatch):
    from samplewise.__main__ import main

    data = written(tmp_path / "data" / "a.jsonl", b'{"body": "w1"}')
    (data.parent / "README.md").write_text("notes")
    command = [
        "samplewise",
        "score",
        "--model",
        str(tiny_model),
        "--data",
        str(data.parent),
        "--out",
        str(tmp_path / "o"),
    ]
    monkeypatch.setattr("sys.argv", [*command, "--max-length", "32"])
    with pytest.raises(SystemExit) as stopped:
        main()
    said = capsys.readouterr()
    assert stopped.value.code == 1
    assert "left out   as no data: 1 .md" in said.out
    assert "1 records in = 0 scored + 1 quarantined (1 missing field)" in said.out


def test_strange_files_do_not_end_a_scoring(tiny_model, tmp_path):
    """A FIFO, a loop of links, and names that are no UTF-8."""
    folder = os.fsencode(tmp_path) + b"/d\xe9"
    os.mkdir(folder)
    with open(folder + b"/\xff.jsonl", "wb") as file:
        file.write(b"\n".join(GOOD))
    os.mkfifo(folder + b"/fifo.jsonl")
    os.symlink(folder, folder + b"/loop")
    manifest = score(tiny_model, os.fsdecode(folder), tmp_path / "out")
    assert (manifest.rows_scored, manifest.reasons) == (30, {"no regular file": 1})
    assert set(table(tmp_path / "out")["source"].to_pylist()) == {r"\xff.jsonl"}


def test_pointers_of_git_lfs_stop_a_scoring(tiny_model, tmp_path):
    data = written(tmp_path / "data" / "a.jsonl", *GOOD)
    pointer = f"version https://git-lfs.github.com/spec/v1\noid sha256:{'b1' * 32}\nsize 9876543\n"
    (data.parent / "b.parquet").write_text(pointer)
    with pytest.raises(SamplewiseError, match=r"pointers in 1 of 2 files, such as b.parquet.*git lfs pull"):
        score(tiny_model, data.parent, tmp_path / "out")
    assert not (tmp_path / "out").exists()

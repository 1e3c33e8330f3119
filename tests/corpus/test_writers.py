"""Records in every format, read again by the format's own reader or by one written from its description."""

import json
import os
import signal
import subprocess
import sys
from itertools import pairwise

import fsspec
import numpy as np
import pyarrow.parquet as pq
import pytest
import world
import zstandard
from datasets import load_from_disk
from hypothesis import given, settings
from hypothesis import strategies as st

from samplewise.core.errors import SamplewiseError
from samplewise.core.replaced import replaced_folder
from samplewise.corpus.writers import output_of, write_records
from samplewise.corpus.writers.tables import ROWS

RECORDS = [
    {"text": f"text é {i} " * (i % 7 + 1), "id": 2**62 + i, "meta": {"url": f"u/{i}", "tags": ["a"] * (i % 3)}}
    | ({"late": i / 2} if i > ROWS else {})
    | {"score": None if i % 2 else 1.5}
    for i in range(ROWS + 50)
]
"""More than a batch: `late` comes in the second."""


def read_mds(folder):
    """Written from the description of the format alone."""
    for shard in json.loads((folder / "index.json").read_text())["shards"]:
        data = (folder / shard["raw_data"]["basename"]).read_bytes()
        assert len(data) == shard["raw_data"]["bytes"]
        count = int(np.frombuffer(data, np.uint32, 1)[0])
        begins = np.frombuffer(data, np.uint32, count + 1, offset=4)
        assert shard["samples"] == count
        described = json.loads(data[4 * (count + 2) : begins[0]])
        assert described["column_names"] == shard["column_names"]
        for start, end in pairwise(begins):
            yield _sample(data[start:end], shard)


def _sample(data, shard):
    at = 4 * sum(size is None for size in shard["column_sizes"])
    lengths = iter(np.frombuffer(data[:at], np.uint32))
    record = {}
    for name, encoding, size in zip(*(shard[f"column_{k}"] for k in ("names", "encodings", "sizes")), strict=True):
        size = next(lengths) if size is None else size
        own, at = data[at : at + size], at + size
        read = {"str": bytes.decode, "json": json.loads, "ndarray:int32": lambda own: np.frombuffer(own[5:], np.int32)}
        record[name] = read[encoding](own) if encoding in read else np.frombuffer(own, encoding)[0].item()
    assert at == len(data)
    return record


def padded(records):
    """As a table gives them: a field that a record lacks is null."""
    names = dict.fromkeys(name for record in records for name in record)
    return [{name: record.get(name) for name in names} for record in records]


def test_json_lines_in_several_files(tmp_path):
    output = output_of(str(tmp_path / "out"), "jsonl.zst", "20kB")
    assert write_records(iter(RECORDS), output) == len(RECORDS)
    files = sorted((tmp_path / "out").iterdir())
    assert len(files) > 5
    assert [file.name for file in files[:2]] == ["part-00000.jsonl.zst", "part-00001.jsonl.zst"]
    data = [zstandard.ZstdDecompressor().decompressobj().decompress(file.read_bytes()) for file in files]
    assert all(20_000 <= len(each) < 20_500 for each in data[:-1])
    assert [json.loads(line) for each in data for line in each.decode().split("\n")[:-1]] == RECORDS


@pytest.mark.parametrize("size", [None, "50kB"])
def test_parquet_keeps_fields_that_come_late(tmp_path, size):
    path = tmp_path / ("out" if size else "out.parquet")
    write_records(iter(RECORDS), output_of(str(path), "parquet" if size else None, size))
    files = sorted(path.iterdir()) if size else [path]
    assert len(files) == (2 if size else 1)
    assert [row for file in files for row in pq.read_table(file).to_pylist()] == padded(RECORDS)


def test_a_folder_of_datasets(tmp_path):
    assert write_records(iter(RECORDS), output_of(str(tmp_path / "out"), "datasets")) == len(RECORDS)
    assert load_from_disk(tmp_path / "out").to_list() == padded(RECORDS)
    assert [each.name for each in tmp_path.iterdir()] == ["out"]


def test_mds_shards(tmp_path):
    records = [{**record, "tokens": np.arange(i % 5 + 1, dtype=np.uint16)} for i, record in enumerate(RECORDS)]
    write_records(iter(records), output_of(str(tmp_path / "out"), "mds", "40kB"))
    found = list(read_mds(tmp_path / "out"))
    assert [each.pop("tokens").tolist() for each in found] == [each["tokens"].tolist() for each in records]
    assert found == [dict(sorted(record.items())) for record in padded(RECORDS)]
    sizes = [file.stat().st_size for file in (tmp_path / "out").glob("*.mds")]
    assert len(sizes) > 5
    assert max(sizes) <= 40_000
    index = json.loads((tmp_path / "out" / "index.json").read_text())
    assert dict(zip(*(index["shards"][0][f"column_{k}"] for k in ("names", "encodings")), strict=True)) == {
        "id": "int64", "late": "json", "meta": "json", "score": "json", "text": "str", "tokens": "ndarray:int32",
    }  # fmt: skip


@pytest.mark.parametrize(("values", "field"), [
    ([1, "a"], "x"), ([[1], 2], "x"), ([{"a": 1}, {"a": "b"}], "x"), ([2**70, 1], "x"), ([2**53 + 1, 0.5], "x"),
])  # fmt: skip
@pytest.mark.parametrize("apart", [False, True])
@pytest.mark.parametrize("format", ["parquet", "datasets", "mds"])
def test_values_that_no_column_holds_are_named(tmp_path, values, field, apart, format):
    """In one batch, and in two; what was there stays, and nothing else."""
    records = [{"x": values[0]}, *([{"x": values[0]}] * ROWS if apart else []), {"x": values[1]}]
    with pytest.raises(SamplewiseError, match=f"field '{field}': .*write .jsonl"):
        write_records(iter(records), output_of(str(tmp_path / "out"), format, "1GB"))
    assert list(tmp_path.iterdir()) == []
    write_records(iter(records), output_of(str(tmp_path / "out.jsonl")))
    assert [json.loads(line) for line in (tmp_path / "out.jsonl").read_text().splitlines()] == records


VALUES = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**63), 2**63 - 1) | st.text(st.characters(exclude_categories=["Cs"])),
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(st.sampled_from("abc"), inner, max_size=2),
    max_leaves=5,
)


@settings(max_examples=40, deadline=None)
@given(st.lists(st.dictionaries(st.sampled_from("xyz"), VALUES, max_size=3), max_size=4))
def test_any_records_come_back_or_are_refused(tmp_path_factory, records):
    folder = tmp_path_factory.mktemp("any")
    write_records(iter(records), output_of(str(folder / "o.jsonl")))
    assert [json.loads(line) for line in (folder / "o.jsonl").read_text().split("\n")[:-1]] == records
    try:
        write_records(iter(records), output_of(str(folder / "o.parquet")))
    except SamplewiseError:
        assert not (folder / "o.parquet").exists()
        return
    found = pq.read_table(folder / "o.parquet").to_pylist()
    assert [_bare(each) for each in found] == [_bare(each) for each in records]


def _bare(value):
    """Without nulls, and what holds nothing but nulls: a table pads its structs with them."""
    if isinstance(value, dict):
        found = {key: _bare(each) for key, each in value.items()}
        return {key: each for key, each in found.items() if each is not None} or None
    return [_bare(each) for each in value] if isinstance(value, list) else value


@pytest.mark.parametrize("format", ["jsonl", "parquet", "mds"])
def test_no_record_at_all(tmp_path, format):
    assert write_records(iter([]), output_of(str(tmp_path / "out"), format, "1GB")) == 0
    assert any((tmp_path / "out").iterdir())


def test_urls_show_index_files_last(tmp_path, monkeypatch):
    memory = fsspec.filesystem("memory")
    put, order = type(memory).put_file, []
    monkeypatch.setattr(type(memory), "put_file", lambda *args, **more: (order.append(args[2]), put(*args, **more)))
    for format, last in (("mds", "index.json"), ("datasets", "state.json")):
        write_records(iter(RECORDS), output_of(f"memory://urls/{format}", format, "40kB"))
        assert order[-1] == f"/urls/{format}/{last}"
    memory.get("/urls/mds", str(tmp_path / "mds"), recursive=True)
    assert len(list(read_mds(tmp_path / "mds"))) == len(RECORDS)


def test_a_failure_shows_nothing_at_a_url():
    def records():
        yield from RECORDS
        raise ZeroDivisionError

    for path, format in (("o.jsonl", None), ("folder", "mds")):
        with pytest.raises(ZeroDivisionError):
            write_records(records(), output_of(f"memory://failed/{path}", format))
    assert not fsspec.filesystem("memory").exists("/failed")


KILLED = """
import os, signal, sys
from pathlib import Path
from samplewise.core.replaced import replaced_folder
with replaced_folder(Path(sys.argv[1])) as temporary:
    (temporary / "part-00000.jsonl").write_text("half")
    os.kill(os.getpid(), signal.SIGKILL)
"""


def test_a_killed_writer_leaves_no_folder_of_the_name(tmp_path):
    done = subprocess.run([sys.executable, "-c", KILLED, tmp_path / "out"], check=False, env=world.ENVIRONMENT)
    assert done.returncode == -signal.SIGKILL
    assert [each.name.startswith(".out.") for each in tmp_path.iterdir()] == [True]
    with replaced_folder(tmp_path / "out") as temporary:
        assert [each.name for each in tmp_path.iterdir()] == [f".out.{os.getpid()}"], "the next writer sweeps"
        (temporary / "a").write_text("whole")
    assert [each.relative_to(tmp_path).as_posix() for each in tmp_path.rglob("*")] == ["out", "out/a"]

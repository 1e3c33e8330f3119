"""`samplewise select` into folders, URLs and token files, from scores of a real corpus."""

import json
import struct
import warnings

import fsspec
import numpy as np
import pyarrow.parquet as pq
import pytest
import scoring
import world
from test_writers import read_mds
from transformers import AutoTokenizer

from samplewise.corpus.store import open_scores


@pytest.fixture(scope="module")
def scores(tiny_model, corpus, tmp_path_factory):
    folder = tmp_path_factory.mktemp("scored") / "scores"
    scoring.score(tiny_model, corpus, folder)
    return folder


def select(scores, out, *options):
    return world.samplewise("select", scores, "--rule", "band(drop_top=0.3)", "--out", out, *options)


def kept(scores):
    rows = scoring.table(scores).to_pylist()
    ranked = sorted(rows, key=lambda row: (-row["loss"], row["id"]))[int(0.3 * len(rows)) :]
    return sorted(ranked, key=lambda row: (row["source"], row["row"], row["window"]))


@pytest.fixture(scope="module")
def predicted(tiny_model, corpus):
    """(the token ids of each document, the id that ends a text)."""
    tokenizer = AutoTokenizer.from_pretrained(tiny_model)
    texts = [json.loads(line)["text"] for line in corpus.read_text().splitlines()]
    return [tokenizer(text, add_special_tokens=False).input_ids for text in texts], tokenizer.eos_token_id


def test_a_url_is_written_like_a_file(scores, tmp_path):
    memory = fsspec.filesystem("memory")
    done = select(scores, "memory://picked/o.jsonl", "--control", "memory://picked/control.parquet")
    assert done.returncode == 0, done.stderr
    assert select(scores, tmp_path / "o.jsonl").returncode == 0
    assert memory.cat("/picked/o.jsonl") == (tmp_path / "o.jsonl").read_bytes()
    said = json.loads(memory.cat("/picked/o.jsonl.statement.json"))
    assert said["all"]["kept"] == len(kept(scores))
    with memory.open("/picked/control.parquet") as file:
        assert pq.read_table(file).num_rows == len(kept(scores))
    for kind, name in (("--ids", "ids.parquet"), ("--weights", "weights.parquet")):
        assert select(scores, f"memory://picked/{name}", kind).returncode == 0
        with memory.open(f"/picked/{name}") as file:
            assert {row["id"] for row in kept(scores)} <= set(pq.read_table(file)["id"].to_pylist())


def test_a_folder_of_files_and_its_statement(scores, tmp_path):
    done = select(scores, tmp_path / "out", "--format", "parquet", "--shard-size", "4kB")
    assert done.returncode == 0, done.stderr
    rows = [row for file in sorted((tmp_path / "out").iterdir()) for row in pq.read_table(file).to_pylist()]
    assert [row["id"] for row in rows] == [row["id"] for row in kept(scores)]
    assert json.loads((tmp_path / "out.statement.json").read_text())["all"]["kept"] == len(rows)
    before = {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*")}
    done = select(scores, tmp_path / "out", "--format", "datasets")
    assert done.returncode == 1
    assert "which is there" in done.stderr
    assert {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*")} == before


def test_the_tokens_of_windows_are_those_that_were_scored(scores, predicted, tmp_path):
    done = select(scores, tmp_path / "out", "--format", "mds-tokens")
    assert done.returncode == 0, done.stderr
    found, expected = list(read_mds(tmp_path / "out")), kept(scores)
    assert [each["id"] for each in found] == [row["id"] for row in expected]
    start = {row["id"]: at for row, at in _starts(scores)}
    texts, end = predicted
    for each, row in zip(found, expected, strict=True):
        ids = texts[row["row"]][start[row["id"]] :][: row["n_tokens"]]
        assert each["tokens"].tolist() == [*ids, end]


def _starts(scores):
    at, before = 0, None
    for row in scoring.table(scores).to_pylist():
        at = 0 if row["row"] != before else at
        yield row, at
        at, before = at + row["n_tokens"], row["row"]


@pytest.mark.slow  # megatron-core takes seconds to import
def test_megatron_reads_the_tokens_of_documents(scores, predicted, tmp_path):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        from megatron.core.datasets.indexed_dataset import IndexedDataset

        done = select(scores, tmp_path / "out", "--format", "megatron", "--unit", "document")
        assert done.returncode == 0, done.stderr
        prefix = tmp_path / "out" / "tokens"
        found = [np.asarray(each).tolist() for each in IndexedDataset(str(prefix), mmap=False)]
    texts, end = predicted
    said = json.loads((tmp_path / "out.statement.json").read_text())
    assert len(found) == said["all"]["kept"]
    assert sum(map(len, found)) == said["all"]["kept_tokens"] + len(found)
    assert {tuple(each) for each in found} <= {(*ids, end) for ids in texts}
    index, data = prefix.with_suffix(".idx").read_bytes(), prefix.with_suffix(".bin").read_bytes()
    assert struct.unpack_from("<9sQBQQ", index) == (b"MMIDIDX\0\0", 1, 8, len(found), len(found) + 1)
    assert np.frombuffer(data, np.uint16).tolist() == [token for each in found for token in each]


@pytest.mark.parametrize(("options", "words"), [
    (["out"], ["--out", "--format"]),
    (["out", "--format", "jsonl"], ["--shard-size", "--out out.jsonl"]),
    (["out", "--format", "arrow"], ["--format", "datasets", "got arrow"]),
    (["out.jsonl", "--shard-size", "1GB"], ["folder", "--out out --format jsonl"]),
    (["out.jsonl", "--format", "mds"], ["folder", "--out out --format mds"]),
    (["out.jsonl", "--format", "parquet"], [".parquet", "out.jsonl"]),
    (["out", "--format", "jsonl", "--shard-size", "much"], ["--shard-size", "1GB"]),
    (["out.parquet", "--ids", "--shard-size", "1GB"], ["--ids", "--shard-size"]),
    (["out", "--format", "megatron", "--tokenizer", "no/such"], ["no/such", "--tokenizer"]),
    (["no-such-protocol://a/o.jsonl"], ["no-such-protocol"]),
    (["scores/o.jsonl"], ["outside the scores"]),
])  # fmt: skip
def test_what_cannot_be_written_is_said_at_once(scores, tmp_path, monkeypatch, options, words):
    monkeypatch.chdir(tmp_path)
    if options[0].startswith("scores"):
        options = [str(scores / "o.jsonl")]
    done = select(scores, *options)
    assert done.returncode == 1, done.stdout
    for word in words:
        assert word in done.stderr
    assert done.stderr.count("\n") == 1
    assert not list(tmp_path.iterdir())


def test_weights_are_never_lost(scores, tmp_path):
    options = ["--rule", "ir_dro(r=1)", "--format", "megatron", "--out", tmp_path / "out"]
    done = world.samplewise("select", scores, *options)
    assert done.returncode == 1
    assert "--format mds-tokens" in done.stderr
    done = world.samplewise("select", scores, *[*options[:3], "mds-tokens", *options[4:]])
    assert done.returncode == 0, done.stderr
    weights = [each["sample_weight"] for each in read_mds(tmp_path / "out")]
    assert np.mean(weights) == pytest.approx(1)
    assert len(set(weights)) > 10


def test_another_tokenizer_is_refused(scores, tmp_path):
    tokenizer = AutoTokenizer.from_pretrained(open_scores(scores).manifest.made["model"])
    tokenizer.add_tokens(["other"])
    tokenizer.save_pretrained(tmp_path / "other")
    done = select(scores, tmp_path / "out", "--format", "mds-tokens", "--tokenizer", tmp_path / "other")
    assert done.returncode == 1
    assert "another tokenizer" in done.stderr
    assert not (tmp_path / "out").exists()


def test_outputs_inside_a_corpus_at_a_url_are_refused(tiny_model, corpus, tmp_path):
    memory = fsspec.filesystem("memory")
    memory.pipe_file("/remote/corpus/a.jsonl", corpus.read_bytes())
    scoring.score(tiny_model, "memory://remote/corpus/*.jsonl", tmp_path / "scores")
    done = select(tmp_path / "scores", "memory://remote/corpus/o.jsonl")
    assert done.returncode == 1
    assert "outside the scores and the corpus" in done.stderr
    assert memory.find("/remote") == ["/remote/corpus/a.jsonl"]
    assert select(tmp_path / "scores", "memory://remote/corpus2/o.jsonl").returncode == 0

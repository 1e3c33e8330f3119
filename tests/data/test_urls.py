"""Corpora at URLs, for training as for scoring: what fsspec reaches is read as files here are."""

import json

import fsspec
import pytest
import world
from transformers import AutoTokenizer

from samplewise.config import DataConfig
from samplewise.core.errors import SamplewiseError
from samplewise.data import ReadReport, read_documents, read_instructions
from samplewise.data.what_rows_are import kind_of_rows
from samplewise.evidence.run.fingerprints import _of_files
from samplewise.evidence.run.prepare import prepare

ROWS = [{"text": f"row {i} ☃", "url": i} for i in range(4)]


@pytest.fixture
def place(tmp_path):
    """A folder here and the same at a URL, with files beside the data."""
    files = {"a/rows.jsonl": "".join(json.dumps(row) + "\n" for row in ROWS), "b.txt": "a text", "README.txt": "notes"}
    for name, text in files.items():
        (tmp_path / "here" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "here" / name).write_text(text)
        fsspec.filesystem("memory").pipe(f"/{tmp_path.name}/{name}", text.encode())
    return tmp_path / "here", f"memory://{tmp_path.name}"


def test_a_url_that_cannot_be_listed_is_named():
    with pytest.raises(SamplewiseError, match=r"http://: expected an object that can be read.*Check the URL"):
        list(read_documents("http://"))


def test_documents_are_those_of_the_same_files_here(place):
    here, there = place
    reports = ReadReport(), ReadReport()
    assert list(read_documents(here, report=reports[0])) == list(read_documents(there, report=reports[1]))
    assert reports[0].left_out == reports[1].left_out == {"README.txt": 1}
    for part in ("a/rows.jsonl", "**/*.jsonl"):
        assert list(read_documents(f"{here}/{part}")) == list(read_documents(f"{there}/{part}"))
    assert [each.text for each in read_documents(f"file://{here}/b.txt")] == ["a text"]
    assert kind_of_rows(f"{there}/a").text_field == "text"


def test_a_change_at_a_url_is_seen_by_the_fingerprint(place):
    _, there = place
    before = _of_files(there)
    assert _of_files(there) == before
    fsspec.filesystem("memory").pipe(f"{there.removeprefix('memory:/')}/b.txt", b"a TEXT")
    assert _of_files(there) != before


def test_conversations_too(tmp_path):
    rows = [{"prompt": "w1", "completion": " w2"}]
    fsspec.filesystem("memory").pipe(f"/{tmp_path.name}/c.jsonl", json.dumps(rows[0]).encode())
    assert [each.text for each in read_instructions(f"memory://{tmp_path.name}/c.jsonl")] == ["w1\n w2"]


def test_a_run_file_may_name_a_url(tmp_path, tiny_tokenizer):
    data = world.save_corpus(tmp_path / "corpus.jsonl")
    fsspec.filesystem("memory").pipe(f"/{tmp_path.name}/corpus.jsonl", data.read_bytes())
    settings = {"max_length": 32, "min_tokens": 4, "held_out": 0.2, "groups": "folder"}
    here, there = (
        prepare(DataConfig(path=path, **settings), tiny_tokenizer)
        for path in (str(data), f"memory://{tmp_path.name}/corpus.jsonl")
    )
    assert [row["input_ids"].tolist() for row in here.train] == [row["input_ids"].tolist() for row in there.train]


@pytest.fixture(scope="module")
def tiny_tokenizer(tmp_path_factory):
    return AutoTokenizer.from_pretrained(world.save_model(tmp_path_factory.mktemp("tiny") / "model"))


@pytest.mark.parametrize("url", ["nosuch://a/b", "memory://nothing/here"])
def test_a_url_that_leads_nowhere_is_refused(url):
    with pytest.raises(SamplewiseError, match=url):
        list(read_documents(url))

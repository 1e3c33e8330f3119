"""Names of datasets on the hub, without a network: read from the cache of `datasets`, or refused in one sentence."""

import json
import shutil
from pathlib import Path

import datasets
import pytest
import world

from samplewise.core.errors import SamplewiseError
from samplewise.data import read_documents
from samplewise.data.what_rows_are import kind_of_rows

TEXTS = ["one", "two ☃", "three"]


@pytest.fixture
def cache(tmp_path, monkeypatch):
    """A cache that holds org/tiny, as a download leaves it there."""
    rows = tmp_path / "rows.jsonl"
    rows.write_text("".join(json.dumps({"text": text, "url": None}) + "\n" for text in TEXTS))
    datasets.load_dataset("json", data_files=str(rows), cache_dir=str(tmp_path / "made"))
    (info,) = (tmp_path / "made").rglob("dataset_info.json")
    own = tmp_path / "cache" / "org___tiny" / "default" / Path(*info.parent.parts[-2:])
    shutil.copytree(info.parent, own)
    (own / "json-train.arrow").rename(own / "tiny-train.arrow")
    said = json.loads(info.read_text()) | {"config_name": "default", "dataset_name": "tiny", "builder_name": "tiny"}
    (own / "dataset_info.json").write_text(json.dumps(said))
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


def test_what_is_in_the_cache_is_read_without_a_network(cache):
    found = list(read_documents("org/tiny", keep=("url",)))
    assert [(each.text, each.source, each.row) for each in found] == [
        (text, "org/tiny/train", row) for row, text in enumerate(TEXTS)
    ]
    assert found[0].record == {"url": None}


@pytest.mark.parametrize(("name", "options", "word"), [
    ("org/missing", {}, "org/missing"), ("org/tiny", {"split": "test"}, "test"), ("org/tiny", {"config": "x"}, "x"),
])  # fmt: skip
def test_what_is_not_there_is_refused_in_one_sentence(cache, name, options, word):
    with pytest.raises(SamplewiseError) as caught:
        list(read_documents(name, **options))
    said = str(caught.value)
    assert said.startswith(f"{name}: expected a file or folder here, or a dataset on the hub, got ")
    assert word in said
    assert "Check the name, config and split and the network" in said
    assert "\n" not in said


def test_the_command_line_says_the_same(tmp_path):
    done = world.samplewise("dedup", "org/missing", "--out", tmp_path / "out.jsonl")
    assert done.returncode == 1
    assert done.stderr.startswith("samplewise: org/missing: expected a file or folder here, or a dataset on the hub")
    assert done.stderr.count("\n") == 1
    with pytest.raises(SamplewiseError, match="org/missing"):
        kind_of_rows("org/missing")

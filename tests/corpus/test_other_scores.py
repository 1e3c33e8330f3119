"""Two folders of scores of one corpus in one selection; folders that do not belong together are refused."""

import dataclasses
import json

import numpy as np
import pytest
import world
from fake_scores import write_fake_scores

from samplewise.corpus import column
from samplewise.corpus.manifest import read_manifest, write_manifest
from samplewise.corpus.place import Place

FACTS = {"corpus": "c", "tokenizer": "t", "settings": {"max_length": 512}}


def folder(path, seed: int, **facts: object):
    """Scores of the same rows, by another model: fake ones draw losses by their seed."""
    write_fake_scores(path, 300, seed=seed)
    place = Place(path)
    write_manifest(place, dataclasses.replace(read_manifest(place), fingerprints={**FACTS, **facts}))
    return path


@pytest.fixture(scope="module")
def small(tmp_path_factory):
    return folder(tmp_path_factory.mktemp("small") / "scores", 0)


def test_the_loss_of_another_folder_is_a_key(small, tmp_path):
    large = folder(tmp_path / "large", 1)
    done = world.samplewise("select", small, "--join", f"large={large}", "--by", "loss - large", "--rule", "top_k(0.2)",
                            "--ids", "--out", tmp_path / "ids.txt")  # fmt: skip
    assert done.returncode == 0, done.stderr
    ids, loss = column(small)
    excess = loss.astype(float) - column(large)[1]
    best = set(ids[np.argsort(-excess)[:60]].tolist())
    assert {int(own) for own in (tmp_path / "ids.txt").read_text().split()} == best
    assert json.loads((tmp_path / "ids.txt.statement.json").read_text())["joined"] == {"large": str(large)}


@pytest.mark.parametrize(("facts", "said"), [
    ({"corpus": "another"}, "of another corpus"), ({"tokenizer": "x"}, "scored with another tokenizer"),
    ({"settings": {"max_length": 128}}, "of max_length 128 instead of 512"),
])  # fmt: skip
def test_scores_that_do_not_belong_together_are_refused_in_one_sentence(small, tmp_path, facts, said):
    other = folder(tmp_path / "other", 1, **facts)
    done = world.samplewise("select", small, "--join", f"x={other}", "--by", "loss - x", "--rule", "top_k(0.2)",
                            "--out", tmp_path / "o.jsonl")  # fmt: skip
    assert done.returncode == 1
    assert done.stderr == (
        f"samplewise: --join: expected scores of the same corpus, tokenizer and windows, got {other}, {said}. "
        "Score this corpus with that model: samplewise score … --as x.\n"
    )
    assert not (tmp_path / "o.jsonl").exists()


@pytest.mark.parametrize(("join", "said"), [
    ("x", "expected NAME=FOLDER"), ("loss=f", "--join: expected a name"), ("a b=f", "--join: expected a name"),
    ("x=no/such/folder", "a folder that samplewise score has finished"),
])  # fmt: skip
def test_bad_words_are_refused(small, tmp_path, join, said):
    done = world.samplewise("select", small, "--join", join, "--below", "3", "--out", tmp_path / "o.jsonl")
    assert done.returncode == 1
    assert said in done.stderr

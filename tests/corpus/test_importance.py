"""Importance by hashed n-grams is the formula of DSIR, by hand, and ranks what is like the target first."""

import math
import re
from collections import Counter
from itertools import pairwise

import pytest
import world
from plain_scores import write_records, write_scores
from scoring import table

from samplewise.corpus import importance as module

TARGET = "the court of appeal held that the claim was void . "
TEXTS = ["the court held that the claim was void.", "add two eggs and stir the flour", "The appeal, of the court!"]


def grams(text: str) -> list[str]:
    words = re.findall(r"[a-z]+|[^a-z ]+", text.lower())
    return words + [f"{one} {two}" for one, two in pairwise(words)]


@pytest.fixture
def scores(tmp_path):
    records = [{"text": text, "own_id": "theirs"} for text in TEXTS]
    return write_scores(tmp_path / "scores", write_records(tmp_path / "data.jsonl", records), records)


def test_importance_by_hand(scores, tmp_path, monkeypatch):
    monkeypatch.setattr(module, "MIN_WORDS", 5)
    (tmp_path / "target.txt").write_text(TARGET * 3)
    done = world.samplewise("importance", scores, "--target", tmp_path / "target.txt", "--as", "law")
    assert done.returncode == 0, done.stderr
    wanted, there = Counter(grams(TARGET * 3)), Counter(gram for text in TEXTS for gram in grams(text))
    every, size = {*wanted, *there}, module.BUCKETS
    hashed = {gram: int(module.features(gram)[-1]) for gram in every}
    assert len(set(hashed.values())) == len(every), "no two share a bucket, so that counts are those of n-grams"

    def log_ratio(gram: str) -> float:
        target = (wanted[gram] + 1) / (wanted.total() + size)
        return math.log(target) - math.log((there[gram] + 1) / (there.total() + size))

    found = {row["row"]: row["law"] for row in table(scores).to_pylist()}
    for row, text in enumerate(TEXTS):
        own = grams(text)
        assert found[row] == pytest.approx(sum(map(log_ratio, own)) / len(own), abs=1e-6)
    assert found[0] > found[2] > found[1]
    done = world.samplewise("select", scores, "--by", "law", "--tokens", 4, "--out", tmp_path / "out.jsonl")
    assert TEXTS[0] in (tmp_path / "out.jsonl").read_text()


def test_a_target_of_ten_words_is_refused(scores, tmp_path):
    (tmp_path / "target.txt").write_text(TARGET)
    done = world.samplewise("importance", scores, "--target", tmp_path / "target.txt")
    assert done.returncode == 1
    assert "--target: expected a text of at least 1,000 words, got about 11" in done.stderr
    assert not (scores / "columns").exists()
    (tmp_path / "target.txt").write_text(TARGET * 200)
    assert world.samplewise("importance", scores, "--target", tmp_path / "target.txt").returncode == 0
    done = world.samplewise("importance", scores, "--target", tmp_path / "target.txt")
    assert "--as: expected a name that no column has" in done.stderr

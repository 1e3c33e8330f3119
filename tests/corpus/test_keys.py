"""Scores beyond one loss: keys of two columns, the answer's loss with and without its instruction, hashed n-grams."""

import math

import numpy as np
import pytest
import world
from fake_scores import write_fake_scores
from plain_scores import write_records
from scoring import score, table
from transformers import AutoTokenizer

from samplewise.core.errors import SamplewiseError
from samplewise.corpus import open_scores
from samplewise.corpus.score import place_of_process
from samplewise.corpus.select import select
from samplewise.corpus.selection import Choice
from samplewise.models import load_model


@pytest.fixture(scope="module")
def scores(tmp_path_factory):
    return open_scores(write_fake_scores(tmp_path_factory.mktemp("scores"), 500, added=("early", "reference")))


@pytest.mark.parametrize(("by", "formula"), [
    ("early - loss", lambda row: row["early"] - row["loss"]),  # learnability: what training took away
    ("loss - reference", lambda row: row["loss"] - row["reference"]),
    ("excess", lambda row: row["loss"] - row["reference"]),
    ("ratio", lambda row: row["loss"] / max(row["reference"], 0.01)),
    ("loss_q90 / loss_q50", lambda row: row["loss_q90"] / max(row["loss_q50"], 0.01)),
])  # fmt: skip
def test_a_key_may_be_made_of_two_columns(scores, by, formula):
    rows = {row["id"]: row for row in table(scores).to_pylist()}
    with select(scores, Choice(by=by, below=math.inf)) as chosen:
        found = chosen.connection.sql(f"SELECT id, key FROM {chosen.view}").fetchall()
    assert len(found) == len(rows)
    for name, key in found:
        assert key == pytest.approx(formula(rows[name]), rel=1e-6, abs=1e-9)


@pytest.mark.parametrize("by", ["early - nothing", "early + loss", "early-loss", "1 - loss"])
def test_keys_that_are_none_are_refused(scores, by):
    with pytest.raises(SamplewiseError, match="column: expected one of"), select(scores, Choice(by=by, above=0)):
        pass


def test_ifd_is_the_answers_loss_with_and_without_the_instruction(tiny_model, tmp_path):
    """Against the model alone: BOS and the answer's own tokens, in a forward of their own."""
    draw = np.random.default_rng(0)
    words = [list(draw.choice(world.WORDS, 7 + i)) for i in range(6)]
    rows = [{"prompt": " ".join(each[4:]), "completion": " " + " ".join(each[:4])} for each in words]
    data = write_records(tmp_path / "rows.jsonl", rows)
    score(tiny_model, data, tmp_path / "scores", kind="instructions", template="plain", answers=True, max_length=64)
    model, _, _ = load_model(str(tiny_model), dtype="float32")
    tokenizer = AutoTokenizer.from_pretrained(tiny_model)
    found = table(tmp_path / "scores").to_pylist()
    assert len(found) == len(rows)
    for each in found:
        answer = tokenizer(rows[each["row"]]["completion"], add_special_tokens=False).input_ids
        ids = [tokenizer.bos_token_id, *answer, *([tokenizer.eos_token_id] if each["completion_tokens"] > 4 else [])]
        assert each["completion_tokens"] == len(ids) - 1
        assert each["answer_loss"] == pytest.approx(_loss(model, ids), abs=1e-5)
        assert each["completion_loss"] != pytest.approx(each["answer_loss"], abs=1e-4)
    with select(open_scores(tmp_path / "scores"), Choice(by="completion_loss / answer_loss", above=0)) as chosen:
        keys = dict(chosen.connection.sql(f"SELECT row, key FROM {chosen.view}").fetchall())
    assert keys == {each["row"]: pytest.approx(each["completion_loss"] / each["answer_loss"]) for each in found}


def _loss(model, ids: list[int]) -> float:
    import torch

    with torch.no_grad():
        logits = model(torch.tensor([ids])).logits[0, :-1].log_softmax(-1)
    return float(-logits[torch.arange(len(ids) - 1), torch.tensor(ids[1:])].mean())


def test_answers_are_of_conversations(tiny_model, corpus, tmp_path):
    with pytest.raises(SamplewiseError, match="--answers: expected --kind instructions"):
        score(tiny_model, corpus, tmp_path / "scores", answers=True)


@pytest.mark.parametrize(("environment", "place"), [
    ({}, (0, 1)), ({"RANK": "2", "WORLD_SIZE": "4"}, (2, 4)),
    ({"SLURM_ARRAY_TASK_ID": "6", "SLURM_ARRAY_TASK_MIN": "2", "SLURM_ARRAY_TASK_STEP": "2",
      "SLURM_ARRAY_TASK_COUNT": "5"}, (2, 5)),
    ({"RANK": "1", "WORLD_SIZE": "2", "SLURM_ARRAY_TASK_ID": "6", "SLURM_ARRAY_TASK_COUNT": "5"}, (1, 2)),
])  # fmt: skip
def test_the_place_of_a_process(environment, place):
    assert place_of_process(environment) == place


def test_a_slurm_array_scores_a_corpus(tiny_model, corpus, tmp_path, monkeypatch):
    """Two tasks, one after the other: the first scores all that is free and finishes, the second finds it done."""
    from samplewise.corpus.score import score_corpus
    from samplewise.corpus.settings import Target

    lines: list[str] = []
    for task in ("3", "4"):
        for name, value in (("ID", task), ("MIN", "3"), ("COUNT", "2"), ("STEP", "1")):
            monkeypatch.setenv(f"SLURM_ARRAY_TASK_{name}", value)
        target = Target(str(tiny_model), str(corpus), str(tmp_path / "scores"), None, "float32")
        found = score_corpus(target, say=lines.append, max_length=32, min_tokens=4, shard_bytes=4000)
        assert found is not None
    assert any("by rank 0 of 2" in line for line in lines)
    assert any("finished before" in line for line in lines)

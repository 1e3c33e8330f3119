"""One model on everything: benchmarks from local files, written answers, and files that can be paired."""

import json

import numpy as np
import pytest
import tiny
import torch
import transformers
import world
import yaml
from hypothesis import given
from hypothesis import strategies as st

from samplewise.core.errors import SamplewiseError
from samplewise.data import Document
from samplewise.evidence.answers import AnswersConfig, answer_rows, exact_match, generate, held_out_rows, rouge_l
from samplewise.evidence.evaluation_file import paired
from samplewise.evidence.initial_model import random_model, train_tokenizer
from samplewise.evidence.tasks import TaskConfig, run_tasks

SIZES = {"hidden_size": 16, "intermediate_size": 24, "num_hidden_layers": 2, "num_attention_heads": 2}


@pytest.fixture(scope="module")
def tokenizer(tmp_path_factory):
    texts = [Document(f"the cat number {i} sat on the mat\n" * 5, "a", i) for i in range(50)]
    return train_tokenizer(texts, 300, tmp_path_factory.mktemp("bpe"))


@pytest.fixture(scope="module")
def model(tokenizer):
    return random_model({"model_type": "llama", **SIZES, "initializer_range": 0.3}, tokenizer, 0)


def log_likelihood(model, tokenizer, context: str, answer: str) -> float:
    """Obvious: the answer's tokens after the context's."""
    before, after = (tokenizer(text, add_special_tokens=False)["input_ids"] for text in (context, context + answer))
    with torch.no_grad():
        log_p = model(torch.tensor([after])).logits[0].double().log_softmax(-1)
    return sum(float(log_p[i - 1, after[i]]) for i in range(len(before), len(after)))


def test_items_of_a_local_file_are_scored_as_by_hand(tmp_path, model, tokenizer, monkeypatch, capfd):
    rows = [
        {"query": f"number {i} sat", "choices": ["on the mat", "the cat on"], "gold": i % 2, "end": f"number {i}"}
        for i in range(12)
    ]
    (tmp_path / "items.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    file, state = str(tmp_path / "items.jsonl"), torch.get_rng_state()
    draw = np.random.get_state()[1].copy()
    monkeypatch.chdir(tmp_path)  # no repository of git
    found = run_tasks(model, tokenizer, [
        TaskConfig("choice", file, limit=10, suffix=" Answer:"), TaskConfig("ends", file, "continuation", answer="end"),
    ])  # fmt: skip
    assert capfd.readouterr() == ("", "")
    assert torch.equal(torch.get_rng_state(), state)
    assert (np.random.get_state()[1] == draw).all()
    assert len(found["choice"]["items"]) == 10
    for i, row in enumerate(rows[:10]):
        scores = [log_likelihood(model, tokenizer, f"{row['query']} Answer:", f" {c}") for c in row["choices"]]
        assert found["choice"]["values"]["acc"][i] == float(int(np.argmax(scores)) == row["gold"])
    assert found["choice"]["figures"]["acc"] == pytest.approx(np.mean(found["choice"]["values"]["acc"]))
    for value, row in zip(found["ends"]["values"]["nll"], rows, strict=True):
        assert value == pytest.approx(-log_likelihood(model, tokenizer, row["query"], f" {row['end']}"), rel=1e-4)


def test_a_wrong_file_or_field_is_refused(tmp_path, model, tokenizer):
    (tmp_path / "items.jsonl").write_text('{"query": "a", "answers": ["b"]}\n')
    with pytest.raises(SamplewiseError, match="a field 'choices'"):
        run_tasks(model, tokenizer, [TaskConfig("x", str(tmp_path / "items.jsonl"))])
    with pytest.raises(SamplewiseError, match=r"a \.jsonl file"):
        run_tasks(model, tokenizer, [TaskConfig("x", str(tmp_path / "none.jsonl"))])


def test_answers_are_greedy_whatever_the_batch(model, tokenizer):
    prompts = ["the cat", "number 7 sat on", "mat"]
    one, all_ = (generate(model, tokenizer, prompts, max_new_tokens=6, batch_size=n) for n in (1, 3))
    assert one == all_
    ids = tokenizer(prompts[1], add_special_tokens=False)["input_ids"]
    for _ in range(6):
        with torch.no_grad():
            ids.append(int(model(torch.tensor([ids])).logits[0, -1].argmax()))
        if ids[-1] == tokenizer.eos_token_id:
            break
    expected = tokenizer.decode(
        ids[len(tokenizer(prompts[1], add_special_tokens=False)["input_ids"]) :], skip_special_tokens=True
    )
    assert one[1] == expected


def test_instruction_rows_are_answered_and_measured(tmp_path, model, tokenizer):
    rows = [{"instruction": f"Say {i}.", "input": "", "output": f"the cat {i}"} for i in range(30)]
    (tmp_path / "rows.json").write_text(json.dumps(rows))
    config = AnswersConfig(str(tmp_path / "rows.json"), held_out=0.4, rows=5, template="plain", max_new_tokens=4)
    found = answer_rows(model, tokenizer, config, batch_size=2)
    assert len(found["items"]) == len(found["answers"]) == 5
    assert set(found["figures"]) == {"exact_match", "rouge_l"}
    assert [each.id for each in held_out_rows(config)] == found["items"]
    some = {each.id for each in held_out_rows(AnswersConfig(config.path, held_out=0.4, rows=99))}
    assert set(found["items"]) < some
    assert len(some) < 30


@given(st.lists(st.sampled_from("abcd"), max_size=12), st.lists(st.sampled_from("abcd"), max_size=12))
def test_rouge_is_that_of_a_recursion(a, b):
    def longest(i: int, j: int) -> int:
        table = {(-1, y): 0 for y in range(-1, len(b))} | {(x, -1): 0 for x in range(len(a))}
        for x in range(len(a)):
            for y in range(len(b)):
                table[x, y] = table[x - 1, y - 1] + 1 if a[x] == b[y] else max(table[x - 1, y], table[x, y - 1])
        return table[i, j]

    common = longest(len(a) - 1, len(b) - 1)
    expected = 2 * common / (len(a) + len(b)) if common else 0.0
    assert rouge_l(" ".join(a), " ".join(b)) == pytest.approx(expected)
    assert exact_match(" ".join(a), ", ".join(b).upper()) == float(a == b)


def test_the_command_writes_files_that_pair(tmp_path):
    world.save_model(tmp_path / "a")
    world.save_corpus(tmp_path / "corpus.jsonl")
    other = transformers.AutoTokenizer.from_pretrained(tmp_path / "a")
    tiny.model(vocab_size=64, max_position_embeddings=128, seed=5).save_pretrained(tmp_path / "b")
    other.save_pretrained(tmp_path / "b")
    config = {
        "model": str(tmp_path / "a"), "output": str(tmp_path / "a.json"),
        "data": {"path": str(tmp_path / "corpus.jsonl"), "max_length": 32, "min_tokens": 4, "held_out": 0.15},
    }  # fmt: skip
    (tmp_path / "evaluate.yaml").write_text(yaml.safe_dump(config))
    first = world.samplewise("evaluate", tmp_path / "evaluate.yaml")
    assert first.returncode == 0, first.stderr
    second = world.samplewise(
        "evaluate", tmp_path / "evaluate.yaml", f"model={tmp_path / 'b'}", f"output={tmp_path / 'b.json'}",
        "--against", tmp_path / "a.json",
    )  # fmt: skip
    assert "held_out: loss" in second.stdout
    header, row = (line.split() for line in first.stdout.splitlines() if line.startswith(("    ", "held_out ")))
    held_out = json.loads((tmp_path / "a.json").read_text())["sets"]["held_out"]
    figures, documents = held_out["figures"], held_out["documents"]
    assert header == ["documents", "mean", "token", "mean", "p90", "worst", "tenth", "bits/byte"]
    names = ("mean", "token_mean", "p90", "worst_decile", "bits_per_byte")
    assert row == ["held_out", str(len(documents)), *(f"{figures[name]:.4f}" for name in names)]
    a, b = (json.loads((tmp_path / name).read_text()) for name in ("a.json", "b.json"))
    losses = [np.array([d["loss"] for d in each["sets"]["held_out"]["documents"]]) for each in (b, a)]
    row = paired(b, a)[0]
    assert row["mean"] == pytest.approx((losses[0] - losses[1]).mean())
    assert row["low"] < row["mean"] < row["high"]
    b["sets"]["held_out"]["documents"].pop()
    with pytest.raises(SamplewiseError, match="the same documents"):
        paired(b, a)
    with pytest.raises(SamplewiseError, match="in common"):
        paired({"sets": {}, "tasks": {}}, a)

"""`score --tokenizer`: the windows of a scoring, without a model; what needs losses refuses them in a sentence."""

import pyarrow as pa
import pytest
import world
from plain_scores import write_records
from scoring import SMALL, digests, score, table

from samplewise.core.errors import SamplewiseError
from samplewise.corpus import column, open_scores
from samplewise.corpus.score import score_corpus
from samplewise.corpus.settings import Target
from samplewise.corpus.table import LOSSES


def windows(tokenizer, data, out, **given):
    target = Target(str(tokenizer), str(data), str(out), losses=False)
    manifest = score_corpus(target, say=lambda line: None, **{**SMALL, **given})
    assert manifest is not None
    return manifest


@pytest.fixture(scope="module")
def cut(tiny_model, corpus, tmp_path_factory):
    out = tmp_path_factory.mktemp("windows") / "out"
    windows(tiny_model, corpus, out)
    return out


@pytest.mark.parametrize("given", [{}, {"max_length": 9, "min_tokens": 2}, {"limit": 40, "characters": 0}])
def test_the_table_is_that_of_a_scoring_without_its_losses(tiny_model, corpus, tmp_path, given):
    alone = windows(tiny_model, corpus, tmp_path / "cut", **given)
    scored = score(tiny_model, corpus, tmp_path / "s", **given)
    whole = table(tmp_path / "s")
    assert table(tmp_path / "cut").equals(whole.drop_columns([name for name in whole.column_names if name in LOSSES]))
    for name in ("rows_in", "rows_scored", "windows", "tokens", "reasons"):
        assert getattr(alone, name) == getattr(scored, name)
    assert not alone.has_losses
    assert scored.has_losses


def test_conversations_keep_the_number_of_completion_tokens(tiny_model, tmp_path):
    rows = [{"instruction": f"say {word}", "output": f"{word} {word}"} for word in world.WORDS[:9]]
    write_records(tmp_path / "rows.jsonl", rows)
    windows(tiny_model, tmp_path / "rows.jsonl", tmp_path / "out", kind="instructions", template="plain")
    found = table(tmp_path / "out")
    assert min(found["completion_tokens"].to_pylist()) > 0
    assert "completion_loss" not in found.column_names


def test_no_model_is_loaded(corpus, tiny_model, tmp_path):
    tokenizer = tmp_path / "tokenizer"
    tokenizer.mkdir()
    for file in tiny_model.glob("tokenizer*"):
        (tokenizer / file.name).write_bytes(file.read_bytes())
    windows(tokenizer, corpus, tmp_path / "out")
    assert (tmp_path / "out" / "manifest.json").exists()
    with pytest.raises(SamplewiseError):
        score(tokenizer, corpus, tmp_path / "scores")


def test_losses_are_added_later(cut, tiny_model, corpus, tmp_path):
    before = digests(cut)
    score(tiny_model, corpus, cut, column="own")
    score(tiny_model, corpus, tmp_path / "scores")
    ids, values = column(cut, "own")
    wanted, losses = column(tmp_path / "scores")
    assert ids.tolist() == wanted.tolist()
    assert values.tolist() == losses.tolist()
    assert before.items() <= digests(cut).items()


def test_ranking_and_its_control_need_no_loss(cut, tmp_path):
    (tmp_path / "target.txt").write_text(" ".join(world.WORDS[:4] * 400))
    done = world.samplewise("importance", cut, "--target", tmp_path / "target.txt")
    assert done.returncode == 0, done.stderr
    out, control = tmp_path / "out.jsonl", tmp_path / "control.jsonl"
    rule = ["--by", "importance", "--rule", "top_k(share=0.25)"]
    done = world.samplewise("select", cut, *rule, "--out", out, "--control", control)
    assert done.returncode == 0, done.stderr
    kept = pa.table({"line": out.read_text().splitlines()}).num_rows
    assert kept == round(0.25 * len(open_scores(cut)))
    assert len(control.read_text().splitlines()) == kept


def test_what_needs_no_loss_works(cut, tmp_path):
    (tmp_path / "target.txt").write_text(" ".join(world.WORDS[5:9] * 400))
    assert world.samplewise("importance", cut, "--target", tmp_path / "target.txt", "--as", "like").returncode == 0
    for option in (["--drop-shared", "0.5"], ["--drop-junk", "0.5"], ["--unit", "document"], ["--within", "length"]):
        rule = ["--by", "like", "--rule", "top_k(share=0.5)", "--out", tmp_path / f"{option[0]}.jsonl"]
        done = world.samplewise("select", cut, *rule, *option)
        assert done.returncode == 0, done.stderr


def test_windows_are_no_losses_to_join(cut, tiny_model, corpus, tmp_path):
    score(tiny_model, corpus, tmp_path / "scores")
    done = world.samplewise(
        "select", tmp_path / "scores", "--join", f"x={cut}", "--by", "x", "--above", "0", "--out", tmp_path / "o.jsonl"
    )
    assert done.returncode == 1
    assert "--join: expected scores with losses" in done.stderr


@pytest.mark.parametrize(
    ("command", "out"), [(["select", "--rule", "top_k(share=0.5)"], "out.jsonl"), (["report"], "out.html")]
)
def test_what_needs_losses_says_how_to_get_them(cut, tmp_path, command, out):
    done = world.samplewise(command[0], cut, *command[1:], "--out", tmp_path / out)
    assert done.returncode == 1
    assert "without losses. Score the corpus with --model into another folder" in done.stderr


def test_a_folder_has_losses_or_none(cut, tiny_model, corpus, tmp_path):
    with pytest.raises(SamplewiseError, match=r"windows without losses\. Add --as NAME"):
        score(tiny_model, corpus, cut)
    score(tiny_model, corpus, tmp_path / "scores")
    with pytest.raises(SamplewiseError, match=r"scores with losses\. Name another folder"):
        windows(tiny_model, corpus, tmp_path / "scores")
    with pytest.raises(SamplewiseError, match="scores with losses, which the sample is compared with"):
        score_corpus(Target(str(tiny_model), str(corpus), str(cut), "big", sample=100), say=str)


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ([], "expected a model, or a --tokenizer in its place, got neither"),
        (["--model", "a", "--tokenizer", "a"], "in its place, got both"),
        (["--tokenizer", "a", "--as", "x"], "--as: expected --model beside it"),
        (["--tokenizer", "a", "--dtype", "float16"], "--dtype: expected --model beside it"),
        (["--tokenizer", "a", "--stride", "4"], "--stride: expected --model beside it"),
        (["--tokenizer", "a", "--compile"], "--compile: expected --model beside it"),
    ],
)
def test_options_of_losses_are_refused(options, said, corpus, tmp_path):
    done = world.samplewise("score", "--data", corpus, "--out", tmp_path / "out", *options)
    assert done.returncode == 1
    assert said in done.stderr


def test_the_command_says_what_it_does(tiny_model, corpus, tmp_path):
    done = world.samplewise("score", "--tokenizer", tiny_model, "--data", corpus, "--out", tmp_path / "out")
    assert done.returncode == 0, done.stderr
    assert "windows of up to 512 tokens without losses, no model is loaded" in done.stdout
    assert "cut        " in done.stdout
    assert "120 records in = 120 cut + 0 quarantined" in done.stdout

"""The commands as a user meets them: in a process of their own, with what they print and leave behind."""

import fcntl
import json
import math
import os
import subprocess
import sys

import pytest
import torch
import typer
import world
import yaml
from safetensors.torch import load_file

from samplewise.core.errors import SamplewiseError
from samplewise.data import read_documents
from samplewise.rules import RULES


@pytest.fixture(scope="module")
def here(tmp_path_factory):
    folder = tmp_path_factory.mktemp("world")
    world.save_model(folder / "model")
    world.save_corpus(folder / "corpus.jsonl")
    world.write_run(folder / "run.yaml", folder / "model", folder / "corpus.jsonl", folder / "out")
    return folder


@pytest.fixture(scope="module")
def finished(here):
    """A whole run, its output folder, and what was printed."""
    done = world.process("train", here / "run.yaml")
    assert done.returncode == 0, done.stderr
    return here / "out", done


def assert_refused(done, *words: str) -> None:
    assert done.returncode == 1, done.stdout + done.stderr
    assert "Traceback" not in done.stderr
    assert done.stderr.startswith("samplewise: ") or "\nsamplewise: " in done.stderr
    for word in words:
        assert word in done.stderr


def test_a_run_leaves_everything_that_it_promises(finished):
    folder, done = finished
    left = {path.name for path in folder.iterdir()}
    assert left == {"checkpoint-20", "model", "results.json", "run.png", "run.yaml"}
    assert {"model.safetensors", "config.json", "tokenizer.json"} <= {
        path.name for path in (folder / "model").iterdir()
    }
    assert (folder / "run.png").read_bytes().startswith(b"\x89PNG")
    for words in ("bits per byte", "worst decile", "p90", "tokens", "seconds", "one seed", str(folder / "run.png")):
        assert words in done.stdout
    assert "training 100% 20/20 steps  " in done.stderr
    assert "Warning" not in done.stderr


def test_results_are_the_figures_and_every_document(finished, here):
    folder, _ = finished
    results = json.loads((folder / "results.json").read_text())
    before, after = results["held_out"]["before"], results["held_out"]["after"]
    assert set(before) == set(after) == {"mean", "token_mean", "bits_per_byte", "p90", "worst_decile"}
    assert after["mean"] < before["mean"]
    documents = results["documents"]
    assert sum(d["loss_after"] for d in documents) / len(documents) == pytest.approx(after["mean"])
    texts = {(d.source, d.row): d.text for d in read_documents(here / "corpus.jsonl")}
    assert all(d["bytes"] == len(texts[d["source"], d["row"]].encode()) for d in documents)
    training = results["training"]
    assert training["steps"] == len(training["curves"]["loss"]) == 20
    assert training["samples"] == 20 * 8
    assert training["samples_left_out"] == 20 * 2
    assert training["samples"] == training["samples_left_out"] + sum(training["weight_bins"])
    assert 0 < training["tokens_trained"] <= 20 * 6 * 31
    assert {"load the model", "read the text", "evaluate", "score", "train", "save"} <= set(results["seconds"])


def test_the_resolved_configuration_says_everything_and_runs_again(finished, here):
    folder, _ = finished
    values = yaml.safe_load((folder / "run.yaml").read_text())
    assert values["data"]["on_error"] == "raise", "defaults are spelled out"
    threads = torch.get_num_threads()
    torch.set_num_threads(1)  # as the other process had
    try:
        done = world.samplewise("train", folder / "run.yaml", f"output={here / 'again'}")
    finally:
        torch.set_num_threads(threads)
    assert done.returncode == 0, done.stderr
    assert_same_weights(folder, here / "again")


def assert_same_weights(a, b) -> None:
    first, second = (load_file(folder / "model" / "model.safetensors") for folder in (a, b))
    assert first.keys() == second.keys()
    assert all(first[name].equal(second[name]) for name in first)


@pytest.mark.slow
def test_ctrl_c_saves_and_resume_ends_where_the_uninterrupted_run_does(finished, here):
    whole, _ = finished
    stopped, output = here / "stopped", f"output={here / 'stopped'}"
    done = world.interrupted("train", here / "run.yaml", output, after=" 4/20 steps")
    assert done.returncode == 130, done.stderr
    assert "Traceback" not in done.stderr
    assert "--resume" in done.stderr
    left = {path.name.split("-")[0] for path in stopped.iterdir()}
    assert left == {"run.yaml", ".before.json", ".fingerprints.json", "checkpoint"}
    assert list(stopped.glob("checkpoint-*/samplewise/complete.json"))
    assert_refused(world.samplewise("train", here / "run.yaml", output), "unfinished", "--resume")
    resumed = world.process("train", here / "run.yaml", output, "--resume")
    assert resumed.returncode == 0, resumed.stderr
    assert_same_weights(stopped, whole)
    results = [json.loads((folder / "results.json").read_text()) for folder in (stopped, whole)]
    assert results[0]["training"] == results[1]["training"]
    assert results[0]["documents"] == results[1]["documents"]


def test_a_finished_folder_and_one_of_another_run_are_left_alone(finished, here):
    folder, _ = finished
    before = {path: path.stat().st_mtime_ns for path in folder.rglob("*")}
    assert_refused(world.samplewise("train", here / "run.yaml"), "not finished")
    assert_refused(world.samplewise("train", here / "run.yaml", "--resume"), "not finished")
    other = world.samplewise("train", here / "run.yaml", "data.max_length=16", "--resume")
    assert_refused(other, "data.max_length 32, not 16")
    assert {path: path.stat().st_mtime_ns for path in folder.rglob("*")} == before


def test_a_folder_in_use_and_foreign_files_are_refused(here):
    folder = here / "used"
    folder.mkdir()
    handle = os.open(folder / ".lock", os.O_RDWR | os.O_CREAT)
    fcntl.flock(handle, fcntl.LOCK_EX)
    assert_refused(world.samplewise("train", here / "run.yaml", f"output={folder}"), "in use")
    os.close(handle)
    (folder / "thesis.tex").write_text("precious")
    assert_refused(world.samplewise("train", here / "run.yaml", f"output={folder}"), "thesis.tex")
    assert (folder / "thesis.tex").read_text() == "precious"


def bad_corpora():
    """Name, content as bytes, words of the message."""
    good = b'{"text": "w1 w2 w3 w4 w5 w6 w7 w8"}\n'
    yield "empty.jsonl", b"", ("at least one document",)
    yield "field.jsonl", b'{"body": "w1"}\n', ("text_field", "body")
    yield "corrupt.jsonl", good * 2 + b'{"text": \n', ("corrupt.jsonl", "line 3")
    yield "encoding.txt", b"w1 \xff w2", ("encoding.txt", "UTF-8")
    yield "blank.jsonl", b'{"text": " "}\n', ("1 empty",)
    yield "one.jsonl", good, ("held_out", "both sides")


@pytest.mark.parametrize("which", range(6))
def test_bad_text_is_refused_and_nothing_is_left(here, tmp_path, which):
    name, content, words = list(bad_corpora())[which]
    (tmp_path / name).write_bytes(content)
    done = run_here(here, tmp_path, f"data.path={tmp_path / name}")
    assert_refused(done, *words)
    assert not (tmp_path / "out").exists()


def run_here(here, tmp_path, *overrides):
    return world.samplewise("train", here / "run.yaml", *overrides, f"output={tmp_path / 'out'}")


@pytest.mark.parametrize(
    ("override", "words"),
    [
        ("data.max_length=500", ("max_length", "context, 128")),
        ("model=nothing/at/all.gguf", ("no such file",)),
        ("data.path=nothing/**/*.txt", ("no match",)),
        ("training.lerning_rate=1", ("training.lerning_rate", "Did you mean learning_rate?")),
        ("training.max_steps=many", ("training.max_steps", "a whole number")),
        ("training.output_dir=x", ("training.output_dir", "output")),
        ("training.per_device_train_batch_size=1", ("drop_top",)),
        ("data.streaming=true", ("held_out_documents",)),
    ],
)
def test_bad_settings_are_refused_and_nothing_is_left(here, tmp_path, override, words):
    assert_refused(run_here(here, tmp_path, override), *words)
    assert not (tmp_path / "out").exists()


def test_a_file_that_is_no_gguf_and_one_that_breaks_off_are_refused(here, tmp_path):
    for content in (b"PK\x03\x04 zip", b"GGUF\x03\x00\x00\x00\x01"):
        (tmp_path / "model.gguf").write_bytes(content)
        assert_refused(run_here(here, tmp_path, f"model={tmp_path / 'model.gguf'}"), "GGUF")
        assert not (tmp_path / "out").exists()


def test_bad_lines_are_skipped_and_counted_only_if_asked_for(here, tmp_path):
    corpus = tmp_path / "some.jsonl"
    corpus.write_bytes((here / "corpus.jsonl").read_bytes() + b"{broken\n")
    done = run_here(here, tmp_path, f"data.path={corpus}", "data.on_error=skip", "training.max_steps=1")
    assert done.returncode == 0, done.stderr
    assert "1 skipped (corrupt JSON)" in done.stdout
    assert "line 121" in done.stdout


def test_usage_errors_have_their_own_code_and_debug_a_traceback(here, tmp_path):
    assert world.samplewise("train").returncode == 2
    assert world.samplewise("trian").returncode == 2
    with pytest.raises(SamplewiseError, match="No such file"):
        world.samplewise("train", tmp_path / "none.yaml", "--debug")


def test_weights_prints_bars_and_writes_the_curve(tmp_path):
    done = world.samplewise("weights", "--rule", "ir_dro(r=1)", "--losses", "1,2,3,4", "--plot", tmp_path / "w.png")
    assert done.returncode == 0, done.stderr
    weights = [float(line.split()[1]) for line in done.stdout.splitlines()[1:5]]
    assert weights == pytest.approx([4 * 0.0321, 4 * 0.0871, 4 * 0.2369, 4 * 0.6439], abs=1e-3)
    assert done.stdout.splitlines()[4].count("█") == 30
    assert (tmp_path / "w.png").read_bytes().startswith(b"\x89PNG")


@pytest.mark.parametrize("arguments", [("ir_dro(r=0)", "1,2"), ("ir_dro(r=1)", "1,two"), ("ir_dro(r=1)", ",")])
def test_weights_refuses_what_makes_no_sense(arguments):
    rule, losses = arguments
    assert_refused(world.samplewise("weights", "--rule", rule, "--losses", losses))


def test_rules_are_listed():
    assert all(f"{name}(" in world.samplewise("rules").stdout for name in RULES)


def test_without_typer_one_line_says_how_to_get_it():
    code = (
        "import sys, importlib.util as u; find = u.find_spec;"
        "u.find_spec = lambda name, *rest: None if name == 'typer' else find(name, *rest);"
        "from samplewise.__main__ import main; main()"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=world.ROOT)
    assert done.returncode == 1
    assert done.stderr == 'samplewise: typer is not installed: pip install "samplewise[cli]"\n'


def test_weights_reads_the_fields_that_a_rule_needs():
    given = ("--losses", "1,2,3", "--reference", "1,1,1", "--weight", "1,2,0")
    done = world.samplewise("weights", "--rule", "chain(column_weights(), by('excess', ir_dro(r=1)))", *given)
    assert done.returncode == 0
    weights = [float(line.split()[1]) for line in done.stdout.splitlines()[1:]]
    expected = [1.0, 2 * math.e, 0.0]
    assert weights == pytest.approx([3 * w / sum(expected) for w in expected], abs=1e-3)
    assert world.samplewise("weights", "--rule", "group_dro()", "--losses", "1,2", "--group", "0,x").returncode == 1


def test_weights_of_stored_losses_and_of_tokens(capsys):
    """In this process: what the commands print, without the start of an interpreter each."""
    from samplewise.cli.weights import weights

    def printed(**options):
        weights(**options)
        return [float(line.split()[1]) for line in capsys.readouterr().out.splitlines()[1:]]

    factors = [math.exp(-1), math.exp(-3)]
    expected = [2 * f / sum(factors) for f in factors]
    for rule in ("flow(tau=1)", "chain(flow(tau=1), dft())"):
        assert printed(rule=rule, losses="5,5", stored="1,3") == pytest.approx(expected, abs=1e-3)
    assert printed(token_rule="talr(tau=2)", losses="0,2") == pytest.approx([1.0, math.exp(-1)], abs=1e-3)
    rule = 'token_threshold(max=1, of="reference")'
    assert printed(token_rule=rule, losses="0,2", reference="3,0.5") == [0.0, 1.0]
    for options, wrong in (
        ({"losses": "1,2"}, "--rule, --token-rule: expected one of them, got none"),
        (
            {"rule": "flow()", "token_rule": "dft()", "losses": "1"},
            "--rule, --token-rule: expected one of them, got both",
        ),
        (
            {"token_rule": "dft()", "losses": "1", "group": "1"},
            "--group: expected --reference alone beside --token-rule",
        ),
        ({"rule": "flow()", "losses": "2,2"}, "tau: expected at least 2 samples whose stored losses differ"),
    ):
        with pytest.raises(typer.Exit):
            printed(**options)
        assert wrong in capsys.readouterr().err


def test_a_place_that_cannot_be_written_is_named(tmp_path):
    (tmp_path / "corpus.txt").write_text("some text of several words\n" * 20)
    done = world.samplewise(
        "corrupt", tmp_path / "corpus.txt", tmp_path / "out.jsonl", tmp_path / "none" / "labels.json"
    )
    assert done.returncode == 1
    assert str(tmp_path / "none") in done.stderr
    assert "No such file" in done.stderr
    assert "unexpected" not in done.stderr


def test_what_stands_in_a_file_does_not_command_the_terminal(here, tmp_path):
    file = tmp_path / "run.yaml"
    file.write_text('"\\e[31mred\\u009b\\0": 1\nmodel: m\n')
    done = world.samplewise("train", file)
    assert_refused(done, r"\x1b[31mred\x9b\x00: expected a known key")
    assert done.stderr.count("\n") == 1

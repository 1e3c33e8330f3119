"""The first commands of a newcomer: versions, help, a run file that trains, completion, and figures as JSON."""

import json
import subprocess
import sys

import pytest
import typer
import world
import yaml

from samplewise.cli.app import COMMANDS, app
from samplewise.cli.shell import complete_rule
from samplewise.config import load_config

ROOT = typer.main.get_command(app)


def test_the_version_names_what_a_report_needs():
    done = world.samplewise("--version")
    lines = dict(line.split(" ", 1) for line in done.stdout.splitlines())
    assert lines["samplewise"] == "0.1.0"
    assert {"python", "system", "torch", "transformers"} <= set(lines)


def test_every_command_has_a_panel_and_examples_that_it_reads():
    import shlex

    assert {command.__name__ for panel in COMMANDS.values() for command in panel} == set(ROOT.commands)
    for panel in COMMANDS.values():
        for command, examples in panel.items():
            assert examples
            for example in examples:
                name, *words = shlex.split(example)[1:]
                assert name == command.__name__
                ROOT.commands[name].make_context(name, words)


@pytest.mark.parametrize("name", ["score", "select"])
def test_the_options_of_long_commands_are_in_panels(name):
    from samplewise.cli.panels import PANELS

    known = {parameter.name for parameter in ROOT.commands[name].params}
    assert {one for names in PANELS[name].values() for one in names} <= known
    help_text = world.samplewise(name, "--help").stdout
    assert all(title in help_text for title in PANELS[name])
    assert "Examples:" in help_text


def test_init_writes_a_run_file_for_text_that_trains(tmp_path):
    model, corpus = world.save_model(tmp_path / "model"), world.save_corpus(tmp_path / "corpus.jsonl", 40)
    run = tmp_path / "run.yaml"
    done = world.samplewise("init", "--model", model, "--data", corpus, "--out", run, "--output", tmp_path / "out")
    assert done.returncode == 0, done.stderr
    assert f"samplewise train {run}" in done.stdout
    assert load_config(run).data.text_field == "text"
    assert run.read_text().count("#") > 10
    small = ["training.max_steps=1", "training.per_device_train_batch_size=2", "training.gradient_accumulation_steps=1"]
    short = ["data.max_length=32", "training.use_cpu=true", "data.held_out=0.2", "training.save_strategy=no"]
    done = world.samplewise("train", run, *small, *short, "--json", tmp_path / "figures.json")
    assert done.returncode == 0, done.stderr
    assert json.loads((tmp_path / "figures.json").read_text())["training"]["steps"] == 1


@pytest.mark.parametrize(
    ("row", "kind", "shape"),
    [
        ({"instruction": "a", "output": "b"}, "instructions", "alpaca"),
        ({"messages": [{"role": "user", "content": "a"}]}, "instructions", "messages"),
        ({"content": "a b c"}, "text", None),
    ],
)
def test_init_sees_what_the_rows_are(tmp_path, row, kind, shape):
    (tmp_path / "rows.jsonl").write_text(json.dumps(row) + "\n")
    done = world.samplewise(
        "init", "--model", 'm "x"', "--data", tmp_path / "rows.jsonl", "--out", tmp_path / "run.yaml"
    )
    assert done.returncode == 0, done.stderr
    written = yaml.safe_load((tmp_path / "run.yaml").read_text())
    assert written["data"]["kind"] == kind
    assert written["model"] == 'm "x"'
    assert written["data"].get("text_field") == (None if shape else "content")
    assert shape is None or f"# {shape}:" in (tmp_path / "run.yaml").read_text()


def test_init_refuses_what_it_cannot_use(tmp_path):
    (tmp_path / "rows.jsonl").write_text('{"a": 1}\n')
    (tmp_path / "text.txt").write_text("a text")
    (tmp_path / "there.yaml").write_text("")
    for arguments, word in (
        (["--data", tmp_path / "rows.jsonl"], "Name the field of the text text"),
        (["--data", tmp_path / "none.jsonl"], "Check the path"),
        (["--data", tmp_path / "text.txt", "--rule", "ir_dr()"], "Did you mean ir_dro"),
        (["--data", tmp_path / "text.txt", "--out", tmp_path / "there.yaml"], "Name another with --out"),
    ):
        out = [] if "--out" in arguments else ["--out", tmp_path / "run.yaml"]
        done = world.samplewise("init", "--model", "m", *arguments, *out)
        assert done.returncode == 1
        assert word in done.stderr
        assert not (tmp_path / "run.yaml").exists()


def test_figures_as_json_stand_alone_on_stdout():
    command = [
        sys.executable,
        "-m",
        "samplewise",
        "weights",
        "--rule",
        "top_k(share=0.5)",
        "--losses",
        "1,2",
        "--json",
        "-",
    ]
    done = subprocess.run(command, capture_output=True, text=True, env=world.ENVIRONMENT, cwd=world.ROOT)
    assert json.loads(done.stdout) == {"rule": "top_k(share=0.5)", "losses": [1.0, 2.0], "weights": [0.0, 2.0]}
    assert "loss" in done.stderr


def test_every_command_that_prints_figures_has_json():
    without = {"init", "report", "corrupt", "tokenizer"}
    for name, command in ROOT.commands.items():
        assert any("--json" in parameter.opts for parameter in command.params) == (name not in without), name


def test_rules_complete_after_a_bracket():
    assert complete_rule("ir") == ["ir_dro("]
    assert complete_rule("chain(top") == ["chain(top_k("]
    assert len(complete_rule("")) > 20


def test_a_shell_gets_its_completion():
    environment = {
        **world.ENVIRONMENT,
        "_SAMPLEWISE_COMPLETE": "complete_bash",
        "COMP_WORDS": "samplewise sc",
        "COMP_CWORD": "1",
    }
    done = subprocess.run(
        [sys.executable, "-m", "samplewise"], capture_output=True, text=True, env=environment, cwd=world.ROOT
    )
    assert done.stdout.split() == ["score"]

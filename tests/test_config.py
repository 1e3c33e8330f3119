"""The run file: what is read, what is refused and in which words."""

from pathlib import Path

import pytest

from samplewise.config import DataConfig, RunConfig, load_config, to_yaml
from samplewise.core.errors import SamplewiseError

LEAST = "model: m\ndata: {path: docs}\nrule: ir_dro(r=1)\noutput: runs/a\n"
ROOT = Path(__file__).parent.parent


@pytest.fixture
def write(tmp_path):
    def write(text: str) -> Path:
        path = tmp_path / "run.yaml"
        path.write_text(text)
        return path

    return write


def test_what_is_not_given_has_its_default(write):
    assert load_config(write(LEAST)) == RunConfig("m", DataConfig("docs"), "ir_dro(r=1)", "runs/a")


def test_the_example_is_complete_and_reads():
    path = ROOT / "examples" / "pretrain.yaml"
    config = load_config(path)
    assert config.training["learning_rate"] == 2e-6
    assert config.rule == "ir_dro(r=3.0)"
    named = path.read_text().replace("# ", "")
    for name in [*DataConfig.__dataclass_fields__, *RunConfig.__dataclass_fields__]:
        assert f"{name}:" in named, f"{name} is missing from the example"


def test_what_is_written_reads_back(write, tmp_path):
    config = load_config(write(LEAST), ["training.learning_rate=1e-5", "data.name=en", "training.optim=sgd"])
    (tmp_path / "again.yaml").write_text(to_yaml(config))
    assert load_config(tmp_path / "again.yaml") == config


@pytest.mark.parametrize(
    ("override", "expected"),
    [
        ("training.learning_rate=2e-6", 2e-6),
        ("training.learning_rate=2E+1", 20.0),
        ("training.max_steps=5", 5),
        ("training.bf16=true", True),
        ("training.optim=adamw_torch", "adamw_torch"),
        ("training.report_to=[a, b]", ["a", "b"]),
        ("training.run_name=a=b", "a=b"),
    ],
)
def test_overrides_are_read_as_yaml(write, override, expected):
    key = override.partition("=")[0].removeprefix("training.")
    assert load_config(write(LEAST), [override]).training[key] == expected


def test_the_last_override_wins(write):
    assert load_config(write(LEAST), ["data.max_length=8", "data.max_length=9"]).data.max_length == 9


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("- a\n- b\n", "expected a mapping .* got list"),
        ("just text", "expected a mapping .* got str"),
        ("", "expected a mapping .* got NoneType"),
        ("model: [", "expected YAML, got .*line 1"),
        (LEAST + "model: other\n", "the key 'model' is given twice"),
        (LEAST + "ruel: x\n", "ruel: expected a known key.*Did you mean rule?"),
        (LEAST.replace("path: docs", "path: docs, max_len: 3"), "data.max_len: .*Did you mean max_length?"),
        (LEAST.replace("model: m\n", ""), "model: expected a value, got none"),
        (LEAST.replace("{path: docs}", "docs"), "data: expected a mapping, got 'docs'"),
        (LEAST.replace("path: docs", "path: docs, max_length: long"), "data.max_length: expected a whole number"),
        (LEAST.replace("path: docs", "path: docs, kind: pictures"), "data.kind: expected 'text'"),
        (LEAST.replace("path: docs", "path: docs, held_out: .inf"), "data.held_out: expected a number"),
        (LEAST.replace("ir_dro(r=1)", "ir_drro(r=1)"), "Did you mean ir_dro?"),
        (LEAST + "per: tokens\n", "per: expected 'sample' or 'token', got 'tokens'"),
        (LEAST + "1: x\n", "1: expected a known key"),
        (LEAST + "? [a, b]\n: x\n", "YAML|known key"),
    ],
)
def test_what_is_wrong_is_named(write, text, message):
    with pytest.raises(SamplewiseError, match=message):
        load_config(write(text))


@pytest.mark.parametrize("override", ["x", "=3", "data..path=3", "model.name=3", "data.path=[", "nothing=1"])
def test_wrong_overrides_are_refused(write, override):
    with pytest.raises(SamplewiseError):
        load_config(write(LEAST), [override])


def test_no_code_is_run_by_reading(write):
    with pytest.raises(SamplewiseError, match="YAML"):
        load_config(write("!!python/object/apply:os.getcwd []"))


def test_a_file_that_is_not_there(tmp_path):
    with pytest.raises(SamplewiseError, match="No such file"):
        load_config(tmp_path / "none.yaml")
    (tmp_path / "bytes.yaml").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(SamplewiseError, match="readable YAML"):
        load_config(tmp_path / "bytes.yaml")

"""The run file: what is read, what is refused and in which words."""

from itertools import pairwise
from pathlib import Path

import pytest

from samplewise.config import DataConfig, RunConfig, load_config
from samplewise.config.settings_file import to_yaml
from samplewise.core.errors import SamplewiseError

LEAST = "model: m\ndata: {path: docs}\nrule: ir_dro(r=1)\noutput: runs/a\n"
ROOT = Path(__file__).parent.parent
BOMB = ", ".join(f"{b}: &{b} [{', '.join(f'*{a}' for _ in range(9))}]" for a, b in pairwise("abcdefg"))
"""Nine to the sixth values, as aliases."""


@pytest.fixture
def write(tmp_path):
    def write(text: str) -> Path:
        path = tmp_path / "run.yaml"
        path.write_text(text)
        return path

    return write


def test_what_is_not_given_has_its_default(write):
    given = RunConfig(model="m", data=DataConfig("docs"), rule="ir_dro(r=1)", output="runs/a")
    assert load_config(write(LEAST)) == given


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
        ("model: [", "expected valid YAML, got .*line 1"),
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


@pytest.mark.parametrize("text", ["1:20", "010", "1:20.5", "0b11", "2024-01-01", "no", "off", "yes"])
def test_text_that_old_yaml_takes_for_something_else_stays_text(write, tmp_path, text):
    config = load_config(write(LEAST), [f"data.name={text}", f"training.save_strategy={text}"])
    assert config.data.name == config.training["save_strategy"] == text
    (tmp_path / "again.yaml").write_text(to_yaml(config))
    assert load_config(tmp_path / "again.yaml") == config
    with pytest.raises(SamplewiseError, match="max_length: expected a whole number"):
        load_config(write(LEAST), [f"data.max_length={text}"])


@pytest.mark.parametrize("text", ["1e-5", "true", "~", "12", ".5", "1_000", "<<", "1e5"])
def test_quoted_text_stays_text_through_the_written_file(write, tmp_path, text):
    config = load_config(write(LEAST), [f"data.name='{text}'", f"training.run_name='{text}'"])
    (tmp_path / "again.yaml").write_text(to_yaml(config))
    assert load_config(tmp_path / "again.yaml").training["run_name"] == text


@pytest.mark.parametrize(
    ("text", "value"),
    [("1_000", 1000), ("0x1F", 31), ("-3", -3), ("1.", 1.0), (".5", 0.5), ("1e-5", 1e-5), ("TRUE", True), ("~", None)],
)
def test_plain_values_have_the_types_of_yaml_1_2(write, text, value):
    found = load_config(write(LEAST), [f"training.x={text}"]).training["x"]
    assert found == value
    assert type(found) is type(value)


@pytest.mark.parametrize(
    "change",
    [
        "data.kind=[]", "data.kind={}", "data.max_length=1" + "0" * 30, "data.max_length=0x" + "F" * 4000,
        "data.held_out=1" + "0" * 400, "data.held_out=!!float x", "output=!!timestamp x", "output=!!bool x",
        "output=!!int " + "9" * 5000, "data.path=''", "output='  '", 'output="a\\0b"', 'model="\\ud800"', "data={1: 2}",
        "data={[1]: 2}", "lora={target_modules: [1]}", "pool=true", "per=1", "training={1: 2}", "data.scores={'': a}",
        "data.path=" + "[" * 3000, "data.path=&a [*a]", "training.x=&a {b: *a}",
        f"training={{a: &a [x], {BOMB}}}",
    ],
)  # fmt: skip
def test_no_value_ends_in_another_error_or_a_long_message(write, change):
    with pytest.raises(SamplewiseError) as refused:
        load_config(write(LEAST), [change])
    assert len(str(refused.value)) < 1500


def test_a_change_of_one_alias_leaves_the_other(write):
    text = LEAST + "training: {a: &a {x: 1}, b: *a}\n"
    assert load_config(write(text), ["training.a.x=2"]).training == {"a": {"x": 2}, "b": {"x": 1}}


def test_a_file_without_end_is_refused():
    with pytest.raises(SamplewiseError, match="at most 1 MB"):
        load_config("/dev/zero")

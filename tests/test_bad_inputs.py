"""What no command may accept in silence, and damaged files that it may meet: each is named, none is 'unexpected'."""

import errno

import pytest
import torch
import world
from fake_scores import write_fake_scores

import samplewise
from samplewise.config import RunConfig
from samplewise.config.settings_file import to_yaml
from samplewise.core.errors import SamplewiseError
from samplewise.core.json_file import read_json
from samplewise.evidence.check import check_results
from samplewise.evidence.controls import all_arms
from samplewise.evidence.plan_file import load_plan
from samplewise.evidence.run.diagnose import diagnose_run
from samplewise.evidence.run.folder import check_space
from samplewise.evidence.run.history import FILE, History
from samplewise.rules import chi2_dro


def assert_refused(done, *words: str) -> None:
    assert done.returncode == 1, done.stdout + done.stderr
    assert "unexpected" not in done.stderr
    for word in words:
        assert word in done.stderr


@pytest.mark.parametrize(
    "arguments",
    [
        ("score", "--model", "m", "--data", "", "--out", "o"), ("score", "--model", "", "--data", "d", "--out", "o"),
        ("score", "--model", "m", "--data", "d", "--out", " "), ("score", "--model=m", "--data=", "--out=o"),
        ("select", "", "--out", "o.txt", "--above", "1"), ("select", "s", "--out", "", "--above", "1"),
        ("select", "s", "--out", "o.txt", "--tokens", ""), ("report", "s", "--out", ""), ("train", ""),
        ("compare", "--check", ""), ("corrupt", "", "o", "l"), ("tokenizer", "c", ""), ("diagnose", ""),
        ("weights", "--rule", ""), ("evaluate", "e.yaml", "--against", ""), ("probe", ""), ("sweep", ""),
    ],
)  # fmt: skip
def test_empty_text_is_no_argument(arguments, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert_refused(world.samplewise(*arguments), "expected a value, got empty text")
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("value", ["nan", "inf", "-inf", "1e400"])
@pytest.mark.parametrize("option", ["--above", "--below"])
def test_thresholds_are_finite(option, value, tmp_path):
    scores = write_fake_scores(tmp_path / "scores", 20)
    done = world.samplewise("select", scores, "--out", tmp_path / "kept.txt", "--ids", f"{option}={value}")
    assert_refused(done, f"{option}: expected a finite number")
    assert not (tmp_path / "kept.txt").exists()


def test_numbers_beyond_what_anything_holds(tmp_path):
    scores = write_fake_scores(tmp_path / "scores", 20)
    out = ("--out", tmp_path / "kept.txt", "--ids")
    assert_refused(world.samplewise("select", scores, *out, "--above", "1", "--seed", "9" * 30), "--seed")
    assert_refused(world.samplewise("select", scores, *out, "--tokens", "9" * 25 + "T"), "--tokens")
    assert_refused(world.samplewise("weights", "--rule", "uniform()", "--losses", "1,nan"), "--losses")


@pytest.mark.parametrize("url", ["nosuch://a/b", "s3:/", "://x", "http://[", "zip://", "abc+def://x"])
def test_urls_of_no_store(url, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    done = world.samplewise("select", url, "--out", "o.txt", "--ids", "--above", "1")
    assert_refused(done, "samplewise: ")


@pytest.mark.parametrize("rho", [1e-300, 1e-20, 1e-17, 1e-16, 1e-12, 1e300])
def test_chi2_dro_has_its_limits_at_both_ends(rho):
    losses = [1.0, 2.0, 3.0, 4.0]
    expected = [0, 0, 0, 4] if rho > 1 else [1, 1, 1, 1]
    weights = samplewise.weights(chi2_dro(rho=rho), losses)
    torch.testing.assert_close(weights, torch.tensor(expected, dtype=torch.float64), rtol=0, atol=1e-5)


@pytest.mark.parametrize("rho", [1e-8, 1e-4, 0.1, 0.7])
def test_chi2_dro_is_on_its_ball(rho):
    weights = samplewise.weights(chi2_dro(rho=rho), torch.linspace(0, 1, 50, dtype=torch.float64) ** 2)
    assert float(((weights - 1) ** 2).mean() / 2) == pytest.approx(rho, rel=1e-6)


DAMAGE = [
    "", "{", "[]", "null", "{}", '{"curves": {}, "seconds": {}}', '{"curves": [], "seconds": 1}', "[" * 10**5,
    '{"curves": {"loss": ["x"]}, "seconds": {}}', '{"training": {"curves": 3}, "seconds": {}}', "\xff",
]  # fmt: skip


@pytest.mark.parametrize("text", DAMAGE)
@pytest.mark.parametrize("name", ["results.json", f"checkpoint-3/{FILE}"])
def test_a_damaged_run_is_named(tmp_path, name, text):
    file = tmp_path / name
    file.parent.mkdir(exist_ok=True)
    file.write_bytes(text.encode("latin-1"))
    run = {"path": "d"}
    (tmp_path / "run.yaml").write_text(f"model: m\ndata: {run}\nrule: uniform()\noutput: o\n")
    with pytest.raises(SamplewiseError, match="damaged one"):
        diagnose_run(tmp_path)
    assert_refused(world.samplewise("diagnose", tmp_path), str(file))


def test_a_damaged_log_of_the_trainer_is_named(tmp_path):
    history = History()
    history.save(tmp_path / "checkpoint-1")
    (tmp_path / "run.yaml").write_text("model: m\ndata: {path: d}\nrule: uniform()\noutput: o\n")
    for text in ("{", "{}", '{"log_history": [1]}', '{"log_history": [{"step": "x", "eval_loss": 1}]}'):
        (tmp_path / "checkpoint-1" / "trainer_state.json").write_text(text)
        with pytest.raises(SamplewiseError, match=r"trainer_state.json: .*damaged one"):
            diagnose_run(tmp_path)


@pytest.mark.parametrize("text", DAMAGE[:4])
def test_a_damaged_history_is_not_resumed_from(tmp_path, text):
    (tmp_path / FILE).write_text(text)
    with pytest.raises(SamplewiseError, match="damaged one"):
        History.load(tmp_path)


@pytest.mark.parametrize("text", [*DAMAGE, '{"schema": "samplewise-results-1"}'])
def test_damaged_results_of_a_plan_are_named(tmp_path, text):
    for name in ("results.json", "values.json"):
        (tmp_path / name).write_bytes(text.encode("latin-1"))
    with pytest.raises(SamplewiseError):
        check_results(tmp_path)


def test_a_json_file_that_is_a_folder_or_none(tmp_path):
    for path in (tmp_path, tmp_path / "none.json"):
        with pytest.raises(SamplewiseError, match="a file of numbers"):
            read_json(path, "a file of numbers", "Check it.")


def test_too_little_room_is_told_in_a_unit_that_shows_it(tmp_path, monkeypatch):
    free = 1_250_000
    monkeypatch.setattr("shutil.disk_usage", lambda path: type("Usage", (), {"free": free}))
    with pytest.raises(SamplewiseError, match=r"at least 3\.4 MB free .* got 1\.25 MB in"):
        check_space(tmp_path, 3_400_000)
    with pytest.raises(SamplewiseError, match=r"at least 1,250,001 bytes free .* got 1,250,000 bytes in"):
        check_space(tmp_path, free + 1)
    check_space(tmp_path, free)


def test_what_the_remedy_says_is_what_the_run_file_takes(tmp_path):
    from samplewise.config import load_config
    from samplewise.evidence.run.arguments import training_arguments

    path = tmp_path / "run.yaml"
    path.write_text("model: m\ndata: {path: d}\nrule: uniform()\noutput: o\n")
    config = load_config(path, ["training.save_strategy=no", "training.use_cpu=true", "training.bf16=false"])
    assert isinstance(config, RunConfig)
    assert str(training_arguments(config.training, tmp_path).save_strategy.value) == "no"
    path.write_text(to_yaml(config))
    assert load_config(path).training == config.training
    with pytest.raises(SamplewiseError, match=r"training.save_strategy: expected"):
        training_arguments(load_config(path, ["training.save_strategy=false"]).training, tmp_path)


@pytest.mark.parametrize("change", ["pool=0", "pool=-1", "training.per_device_train_batch_size=-8",
                                    "training.gradient_accumulation_steps=x", "arms.a.pool=1000000000000"])  # fmt: skip
def test_steps_of_no_rows_are_refused_in_plans(tmp_path, change):
    path = tmp_path / "plan.yaml"
    arms = "{a: {rule: band(drop_top=0.1)}}"
    path.write_text(f"model: m\ndata: {{path: d}}\nbudget: {{steps: 3}}\noutput: o\narms: {arms}\n")
    with pytest.raises(SamplewiseError, match=r"a whole number (from 1 to|of 1 or more)"):
        all_arms(load_plan(path, [change]))


@pytest.mark.parametrize("change", ["per_device_train_batch_size=0", "gradient_accumulation_steps=0", "adam_beta1=2.0",
                                    "adam_beta2=1.0", "per_device_eval_batch_size=-1"])  # fmt: skip
def test_values_that_the_trainer_would_fail_on_later_are_refused(tmp_path, change):
    from samplewise.config import load_config
    from samplewise.evidence.run.arguments import training_arguments

    path = tmp_path / "run.yaml"
    path.write_text("model: m\ndata: {path: d}\nrule: uniform()\noutput: o\n")
    name = change.partition("=")[0]
    with pytest.raises(SamplewiseError, match=rf"^training\.{name}: expected a"):
        training_arguments(load_config(path, [f"training.{change}"]).training, tmp_path)


@pytest.mark.parametrize(
    "error", [OSError(errno.EIO, "Input/output error"), RuntimeError("basic_ios::clear: iostream error")], ids=repr
)
def test_a_disk_that_fails_in_a_write_is_named(tmp_path, monkeypatch, error):
    """Errors of a write know no file: what failed is said all the same."""

    def failing(*args, **kwargs):
        raise error

    monkeypatch.setattr("samplewise.corpus.store.open_scores", failing)
    assert_refused(world.samplewise("report", tmp_path, "--out", tmp_path / "r.html"), "samplewise: disk: expected one")

"""The parts of a run: history, folder, data, interruption and a full disk."""

import errno
import json
import shutil
import signal

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
import world

from samplewise.config import DataConfig, load_config
from samplewise.core.errors import SamplewiseError
from samplewise.evidence.run import execute
from samplewise.evidence.run.arguments import check_training, with_precision
from samplewise.evidence.run.callbacks import StopOnSignal
from samplewise.evidence.run.execute import Stopped, run
from samplewise.evidence.run.folder import check_space, exhaustion_explained, locked
from samplewise.evidence.run.history import EDGES, History
from samplewise.evidence.run.prepare import prepare

FIGURES = {
    "loss": 2.0,
    "weighted_loss": 2.1,
    "ess": 0.5,
    "max_weight": 3.0,
    "kl": 0.1,
    "kept": 0.75,
    "length_corr": 0.0,
    "samples": 4.0,
}


@pytest.fixture(scope="module")
def here(tmp_path_factory):
    folder = tmp_path_factory.mktemp("world")
    world.save_model(folder / "model")
    world.save_corpus(folder / "corpus.jsonl")
    return folder


@pytest.fixture(scope="module")
def tokenizer(here):
    import transformers

    return transformers.AutoTokenizer.from_pretrained(here / "model")


@pytest.fixture
def config(here, tmp_path):
    def config(*overrides):
        return load_config(
            world.write_run(tmp_path / "run.yaml", here / "model", here / "corpus.jsonl", tmp_path / "out"),
            ["training.max_steps=6", *overrides],
        )

    return config


def test_history_counts_every_weight_and_survives_the_disk(tmp_path):
    history = History()
    history.add(FIGURES, torch.tensor([0.0, 1e-9, 1.0, 1.2, 1e9]), 5, 40)
    history.add(FIGURES, torch.tensor([1.0, 1.0]), 2, 9)
    history.spend("train", 1.5)
    assert (history.steps, history.samples, history.left_out, history.tokens) == (2, 7, 1, 49)
    assert sum(history.bins) == 6
    assert history.bins[0] == history.bins[-1] == 1
    assert history.bins[EDGES.index(1.0)] == 3
    assert history.bins[EDGES.index(1.0) + 1] == 1
    history.save(tmp_path)
    assert History.load(tmp_path) == history
    assert History.load(tmp_path / "none") == History()


def test_a_folder_is_locked_once_and_vanishes_if_nothing_came_of_it(tmp_path):
    folder = tmp_path / "a" / "b"
    with locked(folder), pytest.raises(SamplewiseError, match="in use"), locked(folder):
        pass
    assert not (tmp_path / "a").exists()
    with locked(folder):
        (folder / "x").touch()
    assert [path.name for path in folder.iterdir()] == ["x"]
    with pytest.raises(SamplewiseError, match="can be written"), locked(folder / "x" / "below"):
        pass


def test_want_of_room_is_said_before_and_after(tmp_path, monkeypatch):
    with pytest.raises(SamplewiseError, match=r"at least 1e\+09 GB free"):
        check_space(tmp_path, 10**18)
    for error in (OSError(errno.ENOSPC, "No space left on device"), RuntimeError("… (os error 28)")):
        with pytest.raises(SamplewiseError, match="room on the disk"), exhaustion_explained(tmp_path):
            raise error
    with pytest.raises(OSError, match="other"), exhaustion_explained(tmp_path):
        raise OSError(errno.EIO, "other")


def test_a_full_disk_at_the_end_leaves_nothing_that_looks_whole_and_resume_ends_the_run(config, tmp_path, monkeypatch):
    settings, said = config(), []
    whole = execute.save_model

    def full(folder, model, tokenizer):
        whole(folder, model, tokenizer)
        shutil.rmtree(folder / "model")
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(execute, "save_model", full)
    with pytest.raises(SamplewiseError, match="room on the disk"):
        run(settings, say=said.append)
    left = {path.name for path in (tmp_path / "out").iterdir()}
    assert left == {"run.yaml", ".before.json", ".fingerprints.json", "checkpoint-6"}
    monkeypatch.setattr(execute, "save_model", whole)
    finished = run(settings, resume=True, say=said.append)
    assert finished.history.steps == 6
    assert (tmp_path / "out" / "results.json").exists()


def test_no_room_for_the_model_is_said_before_training(config, tmp_path, monkeypatch):
    monkeypatch.setattr(shutil, "disk_usage", lambda path: shutil._ntuple_diskusage(10, 9, 1))
    with pytest.raises(SamplewiseError, match="kB free"):
        run(config(), say=str)
    assert not (tmp_path / "out").exists()


def test_resume_before_the_first_checkpoint_starts_anew(config, tmp_path, monkeypatch):
    settings, said = config("training.max_steps=2"), []

    def killed(*args, **kwargs):
        raise KeyboardInterrupt

    monkeypatch.setattr(execute.RunTrainer, "train", killed)
    with pytest.raises(Stopped, match="Stopped at once"):
        run(settings, say=said.append)
    monkeypatch.undo()
    run(settings, resume=True, say=said.append)
    assert any("starting at the first step" in line for line in said)


@pytest.mark.parametrize("kind", ["parts", "half a part"])
def test_resume_before_the_first_checkpoint_takes_the_logged_steps_again(config, tmp_path, monkeypatch, kind):
    """Killed while the first checkpoint was written: the steps before it are logged, and stand in no checkpoint."""
    settings, log = config("training.max_steps=2", f"log_samples={tmp_path / 'log'}"), tmp_path / "log"

    def killed(self, *args, **kwargs):
        log.mkdir()
        name = "steps-00000001-00000009.parquet" if kind == "parts" else ".steps-00000001-00000009.parquet.77"
        pq.write_table(pa.table({"id": [1], "step": [1]}), log / name)
        raise KeyboardInterrupt

    monkeypatch.setattr(execute.RunTrainer, "train", killed)
    with pytest.raises(Stopped):
        run(settings, say=str)
    monkeypatch.undo()
    run(settings, resume=True, say=str)
    assert [path.name for path in log.iterdir()] == ["steps-00000001-00000002.parquet"]
    assert set(pq.read_table(log)["step"].to_pylist()) == {1, 2}


def test_killed_between_its_fingerprints_and_its_configuration(config, tmp_path, monkeypatch):
    """What is there then is of no run yet: the same command begins it, whatever the data were."""
    folder = tmp_path / "out"
    folder.mkdir()
    (folder / ".fingerprints.json").write_text('{"began": {"the training data": "another"}, "accepted": []}')
    assert run(config("training.max_steps=1"), resume=True, say=str).history.steps == 1


@pytest.mark.parametrize("damage", ["", "[]", "{}", '{"began": 3, "accepted": []}', '{"began": {}, "accepted": 1}'])
def test_damaged_fingerprints_are_named(config, tmp_path, monkeypatch, damage):
    def killed(*args, **kwargs):
        raise KeyboardInterrupt

    monkeypatch.setattr(execute.RunTrainer, "train", killed)
    with pytest.raises(Stopped):
        run(config("training.max_steps=1"), say=str)
    (tmp_path / "out" / ".fingerprints.json").write_text(damage)
    with pytest.raises(SamplewiseError, match=r"fingerprints.json: expected the fingerprints of a run, got a damaged"):
        run(config("training.max_steps=1"), resume=True, say=str)


def test_another_runs_log_is_left_alone(config, tmp_path):
    log = tmp_path / "log"
    log.mkdir()
    pq.write_table(pa.table({"id": [1], "step": [1]}), log / "steps-00000001-00000009.parquet")
    for resume in (False, True):
        with pytest.raises(SamplewiseError, match="samples of another run"):
            run(config(f"log_samples={log}"), resume=resume, say=str)
    assert [path.name for path in log.iterdir()] == ["steps-00000001-00000009.parquet"]


def test_the_first_signal_asks_and_the_second_stops(capsys):
    stop, before = StopOnSignal(), signal.getsignal(signal.SIGINT)
    with stop.listening():
        signal.raise_signal(signal.SIGINT)
        assert stop.asked
        assert "checkpoint saved first" in capsys.readouterr().err
        with pytest.raises(KeyboardInterrupt):
            signal.raise_signal(signal.SIGINT)
    assert signal.getsignal(signal.SIGINT) is before


def test_a_terminal_that_closes_asks_too_unless_nohup_keeps_it_off():
    before = signal.getsignal(signal.SIGHUP)
    for handler, asked in ((signal.SIG_DFL, True), (signal.SIG_IGN, False)):
        signal.signal(signal.SIGHUP, handler)
        stop = StopOnSignal()
        with stop.listening():
            signal.raise_signal(signal.SIGHUP)
        assert stop.asked is asked
        assert signal.getsignal(signal.SIGHUP) is handler
    signal.signal(signal.SIGHUP, before)


@pytest.mark.parametrize(
    "rule", ["uniform()", "random_keep(share=0.5)", "ir_dro(r=1)", "mid_ranking(frac=0.5, portion=1)"]
)
@pytest.mark.parametrize("normalize", ["step", "micro"])
def test_every_way_to_run_a_step_is_counted_alike(config, rule, normalize):
    finished = run(config(f"rule={rule!r}", f"normalize={normalize}", "training.save_strategy='no'"), say=str)
    history = finished.history
    assert history.samples == 48
    assert history.left_out == (24 if "0.5" in rule else 0)
    assert sum(history.bins) == history.samples - history.left_out
    least = 24 if "0.5" in rule and normalize == "step" else 48
    assert least * 4 <= history.tokens <= least * 31
    assert history.seconds["train"] > 0
    json.dumps(finished.results, allow_nan=False)


def test_epochs_that_leave_samples_out(config):
    """Fewer samples than three epochs have; a run of one epoch is refused before the evaluation."""
    rule = 'rule=infobatch(share=0.5, anneal=0.0, scope="epoch")'
    epochs = ["training.max_steps=-1", "training.save_strategy='no'"]
    with pytest.raises(SamplewiseError, match="num_train_epochs: expected more than one epoch"):
        run(config(rule, *epochs, "training.num_train_epochs=1"), say=str)
    finished = run(config(rule, *epochs, "training.num_train_epochs=3"), say=str)
    windows = finished.results["data"]["training"]["windows"]
    assert 2 * windows < finished.history.samples < 3 * windows
    assert finished.history.left_out == 0
    assert finished.history.units == 3 * finished.history.tokens, "no forward of what is left out"
    json.dumps(finished.results, allow_nan=False)


def test_training_is_checked_by_name_and_type():
    check_training({"learning_rate": 1, "bf16": True, "lr_scheduler_type": "cosine", "warmup_steps": 3})
    for training, message in (
        ({"learning_rte": 1.0}, "Did you mean learning_rate?"),
        ({"learning_rate": "fast"}, "a number"),
        ({"bf16": 1}, "true or false"),
        ({"output_dir": "x"}, "output of the run file"),
        ({"resume_from_checkpoint": True}, "--resume"),
    ):
        with pytest.raises(SamplewiseError, match=message):
            check_training(training)


def test_precision_is_the_machines_only_if_none_is_asked_for():
    assert with_precision({}, "bfloat16") == {"bf16": True}
    assert with_precision({}, None) == {"bf16": False}
    assert with_precision({"bf16": False}, "bfloat16") == {"bf16": False}
    assert with_precision({"fp16": True}, "bfloat16") == {"fp16": True}


# ---- data ----


def ids(windows) -> list[int]:
    return [window.id for window in windows]


def test_streaming_gives_the_same_sides_as_memory(here, tokenizer):
    base = {"path": str(here / "corpus.jsonl"), "max_length": 32, "min_tokens": 4, "held_out": 0.15}
    memory = prepare(DataConfig(**base), tokenizer)
    stream = prepare(DataConfig(**base, streaming=True, held_out_documents=1000), tokenizer)
    assert ids(stream.held_out) == ids(memory.held_out)
    assert [row["sample_id"] for row in stream.train] == ids(memory.train.windows)
    few = prepare(DataConfig(**base, streaming=True, held_out_documents=2), tokenizer)
    assert [row["sample_id"] for row in few.train] == ids(memory.train.windows), "the others are not trained on either"
    assert len({window.doc_id for window in few.held_out}) == 2


@pytest.mark.parametrize("streaming", [False, True])
def test_held_out_text_of_its_own_is_never_trained_on(here, tokenizer, tmp_path, streaming):
    lines = (here / "corpus.jsonl").read_text().splitlines(keepends=True)
    (tmp_path / "valid.jsonl").write_text("".join(lines[:10]))
    data = DataConfig(
        str(here / "corpus.jsonl"), max_length=32, min_tokens=4, held_out_from=str(tmp_path / "valid.jsonl"),
        streaming=streaming, held_out_documents=10,
    )  # fmt: skip
    found = prepare(data, tokenizer)
    assert len({window.doc_id for window in found.held_out}) == 10
    held = {window.input_ids.tobytes() for window in found.held_out}
    assert not [row for row in found.train if row["input_ids"].int().numpy().tobytes() in held]


def test_evaluation_may_be_cut_short(here, tokenizer):
    data = DataConfig(
        str(here / "corpus.jsonl"), max_length=16, min_tokens=4, held_out=0.2, held_out_documents=5, held_out_windows=1
    )
    found = prepare(data, tokenizer)
    assert len(found.held_out) == 5
    assert {window.index for window in found.held_out} == {0}
    assert any("of " in line and "windows" in line for line in found.lines)


def test_a_corpus_of_scraps_is_refused(tokenizer, tmp_path):
    (tmp_path / "scraps.jsonl").write_text("".join(f'{{"text": "w{i} w2"}}\n' for i in range(50)))
    with pytest.raises(SamplewiseError, match=r"shorter than data\.min_tokens"):
        prepare(DataConfig(str(tmp_path / "scraps.jsonl"), max_length=32, held_out=0.2), tokenizer)


def test_a_reference_model_and_a_token_rule_from_the_run_file(tmp_path):
    """Tokens are chosen by what a second model makes of them; its forward counts among what the run has cost."""
    model, corpus = world.save_model(tmp_path / "model"), world.save_corpus(tmp_path / "corpus.jsonl")
    other = world.save_model(tmp_path / "other", "gpt2")

    def units(name, **changes):
        file = world.write_run(tmp_path / f"{name}.yaml", model, corpus, tmp_path / name, **changes)
        finished = run(load_config(file, ["training.max_steps=3"]), say=str)
        return finished.history.units, finished.history.tokens

    plain, read = units("plain", rule="ir_dro(r=1.0)")
    excess, _ = units("excess", rule="by('excess', ir_dro(r=1.0))", reference_model=str(other))
    chosen, kept = units("chosen", rule="ir_dro(r=1.0)", token_rule="rho1(keep=0.5)", reference_model=str(other))
    assert excess - plain == read
    assert chosen - plain == read
    assert 0.4 * read < kept < 0.55 * read

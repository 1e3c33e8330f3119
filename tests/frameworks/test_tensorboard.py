"""The figures in what TensorBoard, wandb and trackio keep of a run, all without a network."""

import pytest
import tiny

from samplewise.trainers import WeightedTrainer


def trained(tmp_path, reporter):
    args = tiny.arguments(tmp_path / "out", report_to=reporter, max_steps=3)
    trainer = WeightedTrainer(
        tiny.model(), args, train_dataset=tiny.Rows(24), data_collator=tiny.collate, rule="ir_dro(r=0.5)"
    )
    trainer.train()
    return [entry for entry in trainer.state.log_history if "loss" in entry]


@pytest.mark.filterwarnings("ignore")
def test_tensorboard_has_every_figure(tmp_path, monkeypatch):
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    monkeypatch.setenv("TENSORBOARD_LOGGING_DIR", str(tmp_path / "events"))
    log = trained(tmp_path, "tensorboard")
    events = EventAccumulator(str(tmp_path / "events"))
    events.Reload()
    names = [name for name in log[0] if name.startswith("samplewise/")]
    assert len(names) >= 10
    for name in names:
        found = events.Scalars(f"train/{name}")
        assert [each.step for each in found] == [1, 2, 3]
        assert [each.value for each in found] == pytest.approx([entry[name] for entry in log], rel=1e-5)


@pytest.mark.filterwarnings("ignore")
def test_wandb_offline_has_every_figure(tmp_path, monkeypatch):
    wandb = pytest.importorskip("wandb")
    for name, value in (("WANDB_MODE", "offline"), ("WANDB_DIR", str(tmp_path)), ("WANDB_SILENT", "true")):
        monkeypatch.setenv(name, value)
    log = trained(tmp_path, "wandb")
    seen = dict(wandb.run.summary)
    wandb.finish()
    for name, value in log[-1].items():
        if name.startswith("samplewise/"):
            assert seen[f"train/{name}"] == pytest.approx(value)
    assert list(tmp_path.glob("wandb/offline-run-*/*.wandb"))


@pytest.mark.filterwarnings("ignore")
def test_trackio_has_every_figure(tmp_path, monkeypatch):
    monkeypatch.setenv("TRACKIO_DIR", str(tmp_path))  # read when trackio is imported
    storage = pytest.importorskip("trackio.sqlite_storage").SQLiteStorage
    log = trained(tmp_path, "trackio")
    (project,) = storage.get_projects()
    (run,) = storage.get_runs(project)
    kept = [entry for entry in storage.get_logs(project, run) if "train/loss" in entry]
    assert [entry["train/global_step"] for entry in kept] == [1, 2, 3]
    for entry, logged in zip(kept, log, strict=True):
        for name, value in logged.items():
            if name.startswith("samplewise/"):
                assert entry[f"train/{name}"] == pytest.approx(value)

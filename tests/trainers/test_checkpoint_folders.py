"""Which checkpoints stay, which one a run goes on from, and what is left where one cannot be written."""

import errno
import os
import shutil
import time
from typing import Any

import pytest
import tiny
import torch
from transformers import Trainer, TrainerCallback
from watching import OnStep

import samplewise as sw
from samplewise.core.checkpoint import check_complete
from samplewise.trainers import WeightedTrainer, checkpoints, folders

RULE = "warmup(2, ir_dro(r=0.5))"


def trainer(folder, rule=RULE, own=None, **options) -> Any:
    args = tiny.arguments(folder, **{"max_steps": 6, "save_strategy": "steps", "save_steps": 2, **options})
    return WeightedTrainer(
        tiny.model(), args, train_dataset=tiny.Rows(40), data_collator=tiny.collate, rule=rule, **(own or {})
    )


def names(folder):
    return sorted((path.name for path in folder.glob("checkpoint-*")), key=lambda name: int(name[11:]))


def written(folder, step, *, ours=True, whole=True):
    path = folder / f"checkpoint-{step}"
    (path / "samplewise" if ours else path).mkdir(parents=True)
    if whole:
        (path / "samplewise" / "complete.json" if ours else path / "trainer_state.json").write_text("{}")
    return path


def test_a_clock_set_back_deletes_no_new_checkpoint(tmp_path):
    trainer(tmp_path, max_steps=4).train()
    later = time.time() + 86_400
    for path in tmp_path.glob("checkpoint-*"):
        os.utime(path, (later, later))
    seen = []

    class Look(TrainerCallback):
        def on_save(self, args, state, control, **kwargs):
            seen.append(names(tmp_path))

    run = trainer(tmp_path, max_steps=8, save_total_limit=2)
    run.add_callback(Look())
    run.train(resume_from_checkpoint=True)
    assert seen == [["checkpoint-4", "checkpoint-6"], ["checkpoint-6", "checkpoint-8"]]


@pytest.mark.parametrize(
    ("steps", "now", "limit", "best", "left"),
    [
        ([2, 4, 6], 6, 2, None, [4, 6]),
        ([8, 9, 10, 100], 100, 2, None, [10, 100]),  # by number, not by name
        ([2, 4, 6], 4, 1, None, [4]),  # gone on with from 2: what is of a later step is of the run before
        ([2, 4, 6, 8], 4, 2, None, [2, 4]),
        ([2, 4, 6], 6, 1, 2, [2, 6]),
        ([2, 4, 6, 8], 8, 2, 2, [2, 8]),
        ([2, 4, 6, 8], 8, 3, 8, [4, 6, 8]),
        ([2, 4], 4, None, None, [2, 4]),
        ([2, 4], 4, 0, None, [2, 4]),
        ([2, 4], 4, 5, None, [2, 4]),
    ],
)
def test_what_stays(tmp_path, steps, now, limit, best, left):
    for step in reversed(steps):  # the later the step, the earlier the time
        written(tmp_path, step)
    folder = None if best is None else str(tmp_path / f"checkpoint-{best}")
    folders.rotate(tmp_path / f"checkpoint-{now}", limit, folder)
    assert names(tmp_path) == [f"checkpoint-{step}" for step in left]


def test_what_was_never_whole_goes_first_and_foreign_folders_stay(tmp_path):
    for step, whole in ((2, True), (4, False), (6, True)):
        written(tmp_path, step, whole=whole)
    (tmp_path / "checkpoint-best").mkdir()
    (tmp_path / "checkpoint-7").write_text("a file")
    folders.rotate(tmp_path / "checkpoint-6", 2, None)
    left = {path.name for path in tmp_path.iterdir()}
    assert left == {"checkpoint-2", "checkpoint-6", "checkpoint-best", "checkpoint-7"}


def test_the_best_stays_and_is_loaded_under_a_limit_of_one(tmp_path):
    """As in the host: the best and the newest are two, until the best alone is left at the end."""
    run = trainer(
        tmp_path, save_total_limit=1, load_best_model_at_end=True, eval_strategy="steps", eval_steps=2,
        metric_for_best_model="eval_loss", own={"eval_dataset": tiny.Rows(8, seed=2)},
    )  # fmt: skip
    run.train()
    assert run.state.best_model_checkpoint is not None
    assert names(tmp_path) == [os.path.basename(run.state.best_model_checkpoint)]
    assert run.evaluate()["eval_loss"] == pytest.approx(run.state.best_metric)


def plain(folder, **options) -> Any:
    args = tiny.arguments(folder, **{"max_steps": 4, "save_strategy": "steps", "save_steps": 2, **options})
    return Trainer(tiny.model(), args, train_dataset=tiny.Rows(40), data_collator=tiny.collate)


@pytest.mark.parametrize("rule", [RULE, "warmup(0.5, ir_dro(r=0.5))"])
def test_a_plain_trainers_checkpoint_is_gone_on_from_with_the_rules_first_state(tmp_path, rule, caplog):
    """Its steps were not weighed, so that a warm-up begins now, of as many steps as the run has a share of."""
    plain(tmp_path).train()
    run = trainer(tmp_path, rule=rule, max_steps=6)
    seen = []
    run.engine.added.append(OnStep(lambda result: seen.append(result.state)))
    run.train(resume_from_checkpoint=True)
    assert run.state.global_step == 6
    assert "holds no state of a rule" in caplog.text
    assert len(seen) == 2
    named = trainer(tmp_path / "named", rule=rule, max_steps=6)
    named.train(resume_from_checkpoint=str(tmp_path / "checkpoint-4"))
    assert named.rule_state == run.rule_state
    pairs = zip(named.model.parameters(), run.model.parameters(), strict=True)
    assert all(torch.equal(a, b) for a, b in pairs)


def test_the_newest_is_by_step_whoever_wrote_it(tmp_path):
    written(tmp_path, 4)
    written(tmp_path, 6, ours=False)
    written(tmp_path, 8, whole=False)
    written(tmp_path, 10, ours=False, whole=False)
    assert folders.newest(tmp_path).name == "checkpoint-6"
    written(tmp_path, 20)
    assert folders.newest(tmp_path).name == "checkpoint-20"
    for name in ("checkpoint-4", "checkpoint-6", "checkpoint-20"):
        (tmp_path / name).rename(tmp_path / f"old-{name}")
    with pytest.raises(sw.SamplewiseError, match="got only checkpoint-8, checkpoint-10, not whole"):
        folders.newest(tmp_path)


@pytest.mark.parametrize(
    ("error", "said"),
    [
        (OSError(errno.ENOSPC, "No space left on device"), "room on the disk, got none left"),
        (OSError(errno.EDQUOT, "Disk quota exceeded"), "room in your disk quota"),
        (OSError(errno.EMFILE, "Too many open files"), "enough file handles, got all in use"),
        (OSError(errno.ENFILE, "Too many open files in system"), "enough file handles"),
        (OSError(errno.EFBIG, "File too large"), "takes files of this size"),
        (RuntimeError("[enforce fail at inline_container.cc:664] . unexpected pos 704 vs 598"), "room on the disk"),
        (Exception("Error while serializing: I/O error: No space left on device (os error 28)"), "room on the disk"),
    ],
)
@pytest.mark.parametrize("where", ["ours", "host", "marker"])
@pytest.mark.fast_cover(1)
def test_a_checkpoint_that_cannot_be_written_is_one_sentence_and_the_old_one_is_whole(
    tmp_path, monkeypatch, error, said, where
):
    run = trainer(tmp_path, max_steps=4)
    place = {
        "ours": (checkpoints, "save_state"),
        "host": (Trainer, "_save_rng_state"),
        "marker": (checkpoints, "mark_complete"),
    }
    owner, name = place[where]
    write = getattr(owner, name)

    def failing(*args, **kwargs):
        if run.state.global_step == 4:
            raise error
        return write(*args, **kwargs)

    monkeypatch.setattr(owner, name, failing)
    with pytest.raises(sw.SamplewiseError, match=f"{said}.* then resume from checkpoint-2, which is whole") as caught:
        run.train()
    assert len(str(caught.value).splitlines()) == 1
    assert names(tmp_path) == ["checkpoint-2"]
    check_complete(tmp_path / "checkpoint-2")


def test_without_any_checkpoint_yet_it_says_so(tmp_path, monkeypatch):
    run = trainer(tmp_path)

    def full(*args):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(checkpoints, "save_state", full)
    with pytest.raises(sw.SamplewiseError, match="start again: there is no checkpoint yet"):
        run.train()
    assert names(tmp_path) == []


def test_another_error_keeps_its_name(tmp_path, monkeypatch):
    run = trainer(tmp_path)

    def wrong(*args):
        raise OSError(errno.EIO, "Input/output error")

    monkeypatch.setattr(checkpoints, "mark_complete", wrong)
    with pytest.raises(OSError, match="Input/output"):
        run.train()
    assert names(tmp_path) == []


def test_one_that_is_written_again_comes_back_if_the_disk_is_full(tmp_path, monkeypatch):
    trainer(tmp_path, max_steps=4).train()
    before = {path: path.read_bytes() for path in (tmp_path / "checkpoint-4").rglob("*") if path.is_file()}

    def full(folder):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(checkpoints, "mark_complete", full)
    again = trainer(tmp_path, max_steps=4, learning_rate=5e-2)
    with pytest.raises(sw.SamplewiseError, match="resume from checkpoint-4"):
        again.train(resume_from_checkpoint=str(tmp_path / "checkpoint-2"))
    assert {path: path.read_bytes() for path in (tmp_path / "checkpoint-4").rglob("*") if path.is_file()} == before
    assert sorted(path.name for path in tmp_path.iterdir()) == ["checkpoint-2", "checkpoint-4"]


def test_one_that_was_set_aside_by_a_killed_run_is_found_again(tmp_path):
    trainer(tmp_path, max_steps=4).train()
    (tmp_path / "checkpoint-4").rename(tmp_path / ".checkpoint-4.before")
    written(tmp_path, 4, whole=False)
    assert folders.newest(tmp_path).name == "checkpoint-4"
    check_complete(tmp_path / "checkpoint-4")
    assert not list(tmp_path.glob(".checkpoint*"))


@pytest.mark.parametrize(
    ("change", "said"),
    [({"per": "token"}, "per was sample and is token"), ({"pool": 2}, "pool was 1 and is 2")],
)
def test_settings_that_changed_are_said(tmp_path, caplog, change, said):
    trainer(tmp_path, rule="top_k(0.5)", max_steps=4).train()
    caplog.clear()
    other = trainer(tmp_path, rule="top_k(0.5)", max_steps=6, own=change)
    other.train(resume_from_checkpoint=True)
    assert said in caplog.text
    caplog.clear()
    trainer(tmp_path, rule="top_k(0.5)", max_steps=8, own=change).train(resume_from_checkpoint=True)
    assert "changed since the checkpoint" not in caplog.text


class Killed(BaseException):
    """In place of SIGKILL."""


@pytest.fixture
def dies(monkeypatch):
    """A deletion gets as far as our state, then the process dies; to be called once more when it lives again."""
    delete = shutil.rmtree

    def halfway(path, **options):
        if (path / "samplewise").exists():
            delete(path / "samplewise")
            raise Killed

    monkeypatch.setattr(folders.shutil, "rmtree", halfway)
    return lambda: monkeypatch.setattr(folders.shutil, "rmtree", delete)


def with_the_hosts_state(path):
    (path / "trainer_state.json").write_text("{}")
    return path


def test_half_a_deletion_of_what_could_not_be_written_is_no_checkpoint(tmp_path, dies):
    written(tmp_path, 2)

    def write():
        with folders.replaced(tmp_path / "checkpoint-4"):
            with_the_hosts_state(written(tmp_path, 4, whole=False))
            raise OSError(errno.ENOSPC, "No space left on device")

    with pytest.raises(Killed):
        write()
    dies()
    assert folders.newest(tmp_path).name == "checkpoint-2"
    assert names(tmp_path) == ["checkpoint-2"]
    assert not list(tmp_path.glob(".checkpoint*"))


def test_half_a_deletion_of_one_too_many_is_no_checkpoint(tmp_path, dies):
    with_the_hosts_state(written(tmp_path, 9))
    with pytest.raises(Killed):
        folders.rotate(written(tmp_path, 2), 1, None)
    dies()
    assert folders.newest(tmp_path).name == "checkpoint-2"


def test_half_a_deletion_of_what_replaced_a_whole_one_leaves_that_one(tmp_path, dies):
    written(tmp_path, 4).rename(tmp_path / ".checkpoint-4.before")
    with_the_hosts_state(written(tmp_path, 4, whole=False))
    with pytest.raises(Killed):
        folders.newest(tmp_path)
    dies()
    assert (folders.newest(tmp_path) / "samplewise" / "complete.json").exists()

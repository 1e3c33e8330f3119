"""A run that was stopped and resumed is the run that was not."""

import contextlib
import json
import os
import pickle
import shutil

import pytest
import tiny
import torch

import samplewise as sw
from samplewise.core.checkpoint import mark_complete
from samplewise.trainers import WeightedTrainer, checkpoints

RULE = "warmup(1, chain(random_keep(0.75, seed=5), ir_dro(r=0.5)))"


def trainer(folder, rule=RULE, **options):
    args = tiny.arguments(folder, max_steps=6, save_strategy="steps", save_steps=2, **options)
    model = tiny.model(attention_dropout=0.1)
    return WeightedTrainer(model, args, train_dataset=tiny.Rows(40), data_collator=tiny.collate, rule=rule)


def parameters(run):
    return [p.detach().clone() for p in run.model.parameters()]


def history(run):
    return [
        {k: v for k, v in entry.items() if "seconds" not in k} for entry in run.state.log_history if "loss" in entry
    ]


def test_resumed_equals_uninterrupted_bit_for_bit(tmp_path):
    whole = trainer(tmp_path / "whole")
    whole.train()
    resumed = trainer(tmp_path / "again")
    resumed.train(resume_from_checkpoint=str(tmp_path / "whole" / "checkpoint-2"))
    assert all(torch.equal(a, b) for a, b in zip(parameters(whole), parameters(resumed), strict=True))
    assert history(resumed) == history(whole)
    assert resumed.rule_state == whole.rule_state
    assert resumed.rule_state["step"] == 6


def test_only_complete_checkpoints_are_resumed(tmp_path):
    trainer(tmp_path).train()
    (tmp_path / "checkpoint-6" / "samplewise" / "complete.json").unlink()
    again = trainer(tmp_path)
    again.train(resume_from_checkpoint=True)  # checkpoint-4
    assert again.state.global_step == 6
    with pytest.raises(sw.SamplewiseError, match="a checkpoint with samplewise"):
        trainer(tmp_path / "nothing").train(resume_from_checkpoint=True)


def test_a_changed_file_is_refused(tmp_path):
    trainer(tmp_path).train()
    state = tmp_path / "checkpoint-2" / "samplewise" / "state.json"
    state.write_text(json.dumps({**json.loads(state.read_text()), "step": 7}))
    with pytest.raises(sw.SamplewiseError, match=r"changed .*state.json"):
        trainer(tmp_path).train(resume_from_checkpoint=str(tmp_path / "checkpoint-2"))


def test_another_rule_starts_from_its_first_state_and_says_so(tmp_path, caplog):
    trainer(tmp_path).train()
    other = trainer(tmp_path, rule="random_keep(0.5)")
    other.train(resume_from_checkpoint=str(tmp_path / "checkpoint-4"))
    assert "the checkpoint's rule is warmup(1" in caplog.text
    assert other.rule_state["step"] == 2


def test_resumed_from_the_last_step_it_takes_no_step_more(tmp_path):
    whole = trainer(tmp_path)
    whole.train()
    again = trainer(tmp_path)
    again.train(resume_from_checkpoint=True)
    assert again.state.global_step == 6
    assert all(torch.equal(a, b) for a, b in zip(parameters(whole), parameters(again), strict=True))
    assert history(again) == history(whole)


def test_the_old_checkpoint_goes_only_when_the_new_one_is_complete(tmp_path, monkeypatch):
    """And the host's own record of its arguments is what was asked for."""
    seen = []

    def marked(folder):
        seen.append(sorted(path.name for path in tmp_path.glob("checkpoint-*")))
        mark_complete(folder)

    monkeypatch.setattr(checkpoints, "mark_complete", marked)
    run = trainer(tmp_path, save_total_limit=1)
    run.train()
    assert seen == [["checkpoint-2"], ["checkpoint-2", "checkpoint-4"], ["checkpoint-4", "checkpoint-6"]]
    assert [path.name for path in tmp_path.glob("checkpoint-*")] == ["checkpoint-6"]
    assert run.args.save_total_limit == 1
    written = torch.load(tmp_path / "checkpoint-6" / "training_args.bin", weights_only=False)
    assert written.save_total_limit == 1


def test_an_overwritten_checkpoint_counts_as_the_newest(tmp_path):
    """A run that goes on from an old checkpoint deletes others, not what it has just written."""
    trainer(tmp_path).train()
    again = trainer(tmp_path, save_total_limit=2)
    again.train(resume_from_checkpoint=str(tmp_path / "checkpoint-2"))
    assert sorted(path.name for path in tmp_path.glob("checkpoint-*")) == ["checkpoint-4", "checkpoint-6"]


def test_what_a_killed_writer_left_is_taken_away(tmp_path):
    trainer(tmp_path).train()
    folder = tmp_path / "checkpoint-4" / "samplewise"
    (folder / ".state.json.4711").write_text("half")
    trainer(tmp_path).train(resume_from_checkpoint=str(tmp_path / "checkpoint-2"))
    assert sorted(path.name for path in folder.iterdir()) == ["complete.json", "state.json"]


class Payload:
    """What a pickle does when it is read without care."""

    def __init__(self, path):
        self.path = str(path)

    def __reduce__(self):
        return os.mkdir, (self.path,)


def test_a_checkpoint_of_a_stranger_runs_no_code(tmp_path):
    """The host's own files are the only pickles; with their checksums forged, they are still read without running."""
    trainer(tmp_path).train()
    whole, forged, ran = tmp_path / "checkpoint-6", tmp_path / "forged" / "checkpoint-6", tmp_path / "ran"
    for name in ("optimizer.pt", "scheduler.pt", "rng_state.pth", "training_args.bin"):
        shutil.copytree(whole, forged)
        assert (forged / name).exists()
        torch.save(Payload(ran), forged / name)
        mark_complete(forged)
        with contextlib.suppress(pickle.UnpicklingError):
            trainer(tmp_path / "again").train(resume_from_checkpoint=str(forged))
        assert not ran.exists()
        torch.load(forged / name, weights_only=False)
        assert ran.exists(), "it would run, if it were read so"
        ran.rmdir()
        shutil.rmtree(forged)

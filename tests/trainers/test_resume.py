"""A run that was stopped and resumed is the run that was not."""

import json

import pytest
import tiny
import torch

import samplewise as sw
from samplewise.trainers import WeightedTrainer

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

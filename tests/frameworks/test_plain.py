"""The Trainer and the loop on the rows that every framework's test trains on."""

import same_rows
import tiny
import torch

from samplewise.trainers import WeightedStep, WeightedTrainer
from samplewise.trainers.collate import FieldsCollator


def test_trainer(tmp_path):
    args = tiny.arguments(
        tmp_path, per_device_train_batch_size=same_rows.MICRO, gradient_accumulation_steps=same_rows.ACCUMULATION,
        max_steps=1, max_grad_norm=0.0,
    )  # fmt: skip
    trainer = WeightedTrainer(
        same_rows.tiny_model(), args, train_dataset=same_rows.rows(), rule=same_rows.RULE, data_collator=collate
    )
    with same_rows.catch_gradient() as caught:
        trainer.train()
    assert (off := same_rows.distance(caught)) <= 1e-6, off


def test_loop():
    model, rows, size = same_rows.tiny_model(), same_rows.rows(), same_rows.MICRO
    optimizer, step, fields = (
        torch.optim.SGD(model.parameters()),
        WeightedStep(model, same_rows.RULE),
        FieldsCollator(collate),
    )
    batches = [fields(rows[k : k + size]) for k in range(0, len(rows), size)]
    for micro in step.plan(batches):
        step.backward(micro)
    step.finish()
    with same_rows.catch_gradient() as caught:
        optimizer.step()
    assert (off := same_rows.distance(caught)) <= 1e-6, off


def collate(features):
    return tiny.collate([{key: torch.tensor(f[key]) for key in ("input_ids", "labels")} for f in features])

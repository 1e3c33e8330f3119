"""The trainers and the loop on the rows that every framework's test trains on."""

import same_rows
import tiny
import torch
from accelerate import Accelerator
from datasets import Dataset
from tokenizers import Tokenizer, models
from transformers import PreTrainedTokenizerFast
from trl import SFTConfig

from samplewise.trainers import WeightedStep, WeightedTrainer
from samplewise.trainers.collate import FieldsCollator
from samplewise.trainers.trl import WeightedSFTTrainer


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


def test_sft(tmp_path):
    config = SFTConfig(
        str(tmp_path), use_cpu=True, report_to="none", per_device_train_batch_size=same_rows.MICRO, bf16=False,
        gradient_accumulation_steps=same_rows.ACCUMULATION, max_steps=1, max_grad_norm=0.0, max_length=64,
        dataloader_pin_memory=False, save_strategy="no", **{tiny.CHECKPOINTING: False},
    )  # fmt: skip
    words = Tokenizer(models.WordLevel({f"w{i}": i for i in range(same_rows.VOCABULARY)}, unk_token="w3"))
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=words, bos_token="w1", eos_token="w2", pad_token="w0")
    trainer = WeightedSFTTrainer(
        same_rows.tiny_model(), config, train_dataset=Dataset.from_list(same_rows.rows()), rule=same_rows.RULE,
        processing_class=tokenizer,
    )  # fmt: skip
    with same_rows.catch_gradient() as caught:
        trainer.train()
    assert (off := same_rows.distance(caught)) <= 1e-6, off


def test_accelerate():
    accelerator = Accelerator(cpu=True)
    model, rows, size = accelerator.prepare(same_rows.tiny_model()), same_rows.rows(), same_rows.MICRO
    step, fields = WeightedStep(model, same_rows.RULE, accelerator=accelerator), FieldsCollator(collate)
    for micro in step.plan([fields(rows[k : k + size]) for k in range(0, len(rows), size)]):
        step.backward(micro)
    step.finish()
    with same_rows.catch_gradient() as caught:
        torch.optim.SGD(model.parameters()).step()
    assert (off := same_rows.distance(caught)) <= 1e-6, off

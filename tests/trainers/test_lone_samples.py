"""A flat micro-batch that holds a single sample is still a flat one."""

import pytest
import tiny
import torch
from test_step_in_trainer import Gradients
from transformers import DataCollatorWithFlattening

import samplewise as sw
from samplewise.core.columns import SEGMENTS
from samplewise.trainers import WeightedTrainer
from samplewise.trainers.collate import FieldsCollator


def gradient(tmp_path, collate, size, rows=5):
    seen = Gradients()
    args = tiny.arguments(
        tmp_path, per_device_train_batch_size=size, gradient_accumulation_steps=-(-rows // size), max_steps=1,
        max_grad_norm=0.0, learning_rate=0.0,
    )  # fmt: skip
    WeightedTrainer(
        tiny.model(), args, train_dataset=tiny.Rows(rows), data_collator=collate,
        rule=sw.chain(sw.top_k(0.5), sw.ir_dro(0.5)), callbacks=[seen],
    ).train()  # fmt: skip
    return seen.steps[0]


@pytest.mark.parametrize("size", [1, 2], ids=["each alone", "the last alone"])
@pytest.mark.parametrize("kernels", [False, True], ids=["positions", "boundaries for kernels"])
def test_a_lone_sample_is_dealt_with_the_others(tmp_path, size, kernels):
    flat = DataCollatorWithFlattening(return_tensors="pt", return_flash_attn_kwargs=kernels, return_seq_idx=kernels)
    expected = gradient(tmp_path, tiny.collate, 5)
    assert (gradient(tmp_path, flat, size) - expected).norm() <= 1e-5 * expected.norm()


def test_a_lone_padded_row_is_none():
    """Its positions came with the data, or it has a mask."""
    row = {"input_ids": torch.tensor([4, 5]), "labels": torch.tensor([4, 5]), "sample_id": 0}
    own = {**row, "position_ids": torch.arange(2)}
    stack = lambda rows: {key: torch.stack([row[key] for row in rows]) for key in rows[0]}  # noqa: E731
    positions = lambda rows: {**stack(rows), "position_ids": torch.arange(2)[None]}  # noqa: E731
    masked = lambda rows: {**positions(rows), "attention_mask": torch.ones(1, 2)}  # noqa: E731
    assert SEGMENTS not in FieldsCollator(stack)([own])
    assert SEGMENTS not in FieldsCollator(masked)([row])
    assert FieldsCollator(positions)([row])[SEGMENTS].tolist() == [[0, 0]]

"""The Trainer needs no `datasets` library for rows in memory or a stream of them, and neither do weights."""

import sys

import pytest
import tiny
from torch.utils.data import IterableDataset

from samplewise.trainers import WeightedTrainer


class Stream(IterableDataset):
    def __iter__(self):
        yield from tiny.Rows(24)


@pytest.mark.parametrize("data", [tiny.Rows(24), Stream()], ids=["rows", "stream"])
def test_it_trains(data, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "datasets", None)  # an import of it raises
    trainer = WeightedTrainer(
        tiny.model(), tiny.arguments(tmp_path), train_dataset=data, data_collator=tiny.collate, rule="ir_dro(r=1.0)"
    )
    trainer.train()
    assert trainer.engine.steps == 2

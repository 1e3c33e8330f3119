"""A rank with fewer samples to score than another runs a blank row, whose loss is nobody's."""

from pathlib import Path

import preloaded
import torch

PROGRAM = Path(__file__).with_name("stored.py")


def test_a_blank_rows_loss_is_not_that_of_sample_0(tmp_path):
    done = preloaded.run(PROGRAM, tmp_path, timeout=300)
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-4000:]
    assert torch.load(tmp_path / "kept.pt", weights_only=True).tolist() == [1, 2, 4, 5]

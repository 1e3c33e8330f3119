"""Preference pairs on two processes: the gradient and the metrics of one process, and Dr. DPO's own."""

import math
from pathlib import Path

import preloaded
import pytest
import torch
from preferences import PAIRS, by_hand, close, gradient, pairs, policy

PROGRAM = Path(__file__).with_name("pairs.py")


@pytest.mark.slow
def test_two_ranks_take_the_step_of_one(tmp_path):
    """A rule that weighs all pairs, and one that keeps a single pair, so that the other rank runs a blank one."""
    done = preloaded.run(PROGRAM, tmp_path, timeout=300)
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-4000:]
    for number in range(2):
        one, two = (torch.load(tmp_path / f"{number}-{ranks}.pt", weights_only=True) for ranks in (1, 2))
        assert all(map(close, two["gradients"], one["gradients"]))
        for alone, together in zip(one["logged"], two["logged"], strict=True):
            assert together == pytest.approx(alone, rel=1e-5, abs=1e-6)
    second, model = 0.4, policy().double()
    losses = by_hand(model, pairs())
    want = gradient(-second * (torch.logsumexp(-losses / second, 0) - math.log(PAIRS)), model.parameters())
    found = torch.load(tmp_path / "0-2.pt", weights_only=True)["gradients"]
    assert len(found) == 2
    assert all(close(step, want, 1e-5) for step in found)

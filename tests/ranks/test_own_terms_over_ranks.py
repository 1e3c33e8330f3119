"""The own term of a model counts once, also where a rank has no row to train on and runs a blank one."""

from pathlib import Path

import preloaded
import pytest
import torch

PROGRAM = Path(__file__).with_name("own_terms.py")


@pytest.mark.slow
def test_a_rank_without_rows_takes_nothing_from_the_term(tmp_path):
    done = preloaded.run(PROGRAM, tmp_path, timeout=300)
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-4000:]
    for name in ("adalora", "router"):
        alone, two = (torch.load(tmp_path / f"{name}-{ranks}.pt", weights_only=True) for ranks in (1, 2))
        assert (two - alone).norm() <= 1e-5 * alone.norm(), name

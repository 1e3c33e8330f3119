"""A head that is split over 2 and 4 ranks gives the whole head's losses, gradients, entropy and correctness."""

import subprocess
import sys
from pathlib import Path

import pytest
from test_loops import ENVIRONMENT

PROGRAM = Path(__file__).with_name("vocabulary.py")


@pytest.mark.parametrize("ranks", [2, pytest.param(4, marks=pytest.mark.slow)])
@pytest.mark.slow
def test_a_split_head_is_the_whole_one(ranks):
    done = subprocess.run(
        [sys.executable, str(PROGRAM), str(ranks)], env=ENVIRONMENT, capture_output=True, text=True, timeout=300
    )
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-4000:]

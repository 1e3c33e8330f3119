"""A head that is split over 2 and 4 ranks gives the whole head's losses, gradients, entropy and correctness."""

from pathlib import Path

import preloaded
import pytest

HERE = Path(__file__).parent


def ran(program: str, ranks: int) -> None:
    done = preloaded.run(HERE / program, ranks)
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-4000:]


@pytest.mark.parametrize("ranks", [2, 4])
@pytest.mark.slow
def test_a_split_head_is_the_whole_one(ranks):
    ran("vocabulary.py", ranks)


@pytest.mark.parametrize("ranks", [2, 4], ids=["tensor parallelism", "within FSDP2"])
@pytest.mark.slow
def test_a_model_that_transformers_loads_in_parts_takes_the_steps_of_the_whole_one(ranks):
    ran("tensor_parallel.py", ranks)

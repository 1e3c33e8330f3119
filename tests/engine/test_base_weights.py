"""What a sample counts before a rule weighs it, as the loop that asks averages over tokens."""

import pytest
import torch

from samplewise.core.errors import SamplewiseError
from samplewise.core.micro_batch import MicroBatch
from samplewise.engine.base_weights import TokenMean, loop_scale, with_base_weights

CPU = torch.device("cpu")


def micro(*tokens: int) -> MicroBatch:
    """Rows with so many predicted tokens each."""
    labels = torch.full((len(tokens), max(tokens) + 1), -100)
    for row, count in zip(labels, tokens, strict=True):
        row[1 : count + 1] = 5
    return MicroBatch({}, labels=labels, id=torch.arange(len(tokens)))


BATCHES = [micro(1, 2, 3), micro(4, 0)]


def weights(per: str, over: str = "step") -> list[list[float]]:
    found = with_base_weights(BATCHES, per, TokenMean(over))  # pyright: ignore[reportArgumentType]
    return [each.base_weight.tolist() for each in found if each.base_weight is not None]


def test_a_sample_counts_once_or_by_its_tokens():
    assert weights("sample") == [[1, 1, 1], [1, 1]]
    assert weights("token") == [[1, 2, 3], [4, 0]]


def test_the_mean_of_the_ranks_means_counts_a_ranks_tokens_as_shares():
    (first, second) = weights("token", "rank")
    assert first == pytest.approx([0.1, 0.2, 0.3])
    assert second == pytest.approx([0.4, 0.0])


def test_the_mean_of_micro_batches_means_counts_each_once():
    (first, second) = weights("token", "micro_batch")
    assert first == pytest.approx([1 / 6, 2 / 6, 3 / 6])
    assert second == [1.0, 0.0]


def test_the_loops_own_divisor():
    """10 tokens are predicted; a loop that counts 15 labels reports two thirds of the mean over tokens."""
    assert loop_scale(BATCHES, TokenMean(), 0, CPU) == 1.0
    assert loop_scale(BATCHES, TokenMean(divisor=15.0), 0, CPU) == pytest.approx(2 / 3)
    assert loop_scale(BATCHES, TokenMean(divisor=13.0), 3, CPU) == pytest.approx(1.0), "it counts what nothing predicts"
    assert loop_scale(BATCHES, TokenMean(divisor=13.0, shifted=False), 3, CPU) == pytest.approx(10 / 13)
    with pytest.raises(SamplewiseError, match="at least one predicted token"):
        loop_scale(BATCHES, TokenMean(divisor=0.0), 0, CPU)

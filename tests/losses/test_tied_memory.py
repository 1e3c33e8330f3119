"""How many gradients of the head's size a backward holds."""

import pytest
import torch
from torch import nn
from torch.profiler import ProfilerActivity, profile

from samplewise.losses.kernels import objective

VOCABULARY, SIZE = 2048, 64


def allocated_in_backward(tied: bool) -> list[int]:
    """Bytes of the large allocations of a backward through an embedding and a head, of one matrix or of two."""
    torch.manual_seed(0)
    embedding = nn.Embedding(VOCABULARY, SIZE)
    head = embedding.weight if tied else nn.Parameter(embedding.weight.detach().clone())
    ids = torch.randint(VOCABULARY, (2, 16))
    result = objective(embedding(ids), head, ids, torch.ones(2))
    with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as seen:
        result.value.backward()
    events = seen.profiler.kineto_results.events()
    size = VOCABULARY * SIZE * 4
    return [each.nbytes() for each in events if each.name() == "[memory]" and each.nbytes() >= size]


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("tied", [True, False])
def test_a_backward_allocates_the_gradient_of_the_embedding_alone(tied):
    # The head's was formed in the forward, and becomes `grad` as it is. Tied, the embedding's is added to it in place.
    assert len(allocated_in_backward(tied)) == 1

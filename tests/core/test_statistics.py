"""The figures against numpy and against what their definitions demand."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from samplewise.core.statistics import correlation, effective_sample_size, kl_to_uniform

weights = st.lists(st.one_of(st.just(0.0), st.floats(1e-6, 1e6)), min_size=1, max_size=30).filter(any)
quick = settings(max_examples=100, deadline=None)


@quick
@given(weights, st.sampled_from([1e-200, 1.0, 1e200]))
def test_effective_sample_size(values, scale):
    w = np.array(values)
    ess = effective_sample_size(torch.tensor(w * scale))
    assert ess == pytest.approx(w.sum() ** 2 / (w**2).sum())
    assert 1 - 1e-9 <= ess <= np.count_nonzero(w) + 1e-9


@quick
@given(weights, st.sampled_from([1e-200, 1.0, 1e200]))
def test_kl_to_uniform(values, scale):
    w = np.array(values)
    p = w / w.sum()
    kl = kl_to_uniform(torch.tensor(w * scale))
    assert kl == pytest.approx(sum(x * math.log(x * len(p)) for x in p if x > 0), abs=1e-9)
    assert 0 <= kl <= math.log(len(p)) + 1e-9
    assert effective_sample_size(torch.tensor(w)) >= len(p) * math.exp(-_renyi(p)) * (1 - 1e-9)


def _renyi(p: np.ndarray) -> float:
    """The Rényi divergence of order 2 from uniform: log(N / ESS)."""
    return math.log((p**2).sum() * len(p))


@pytest.mark.parametrize("n", [1, 2, 7, 1000])
def test_the_two_extremes(n):
    equal, single = torch.full((n,), 0.3), torch.eye(n)[0]
    assert effective_sample_size(equal) == pytest.approx(n)
    assert kl_to_uniform(equal) == pytest.approx(0, abs=1e-12)
    assert effective_sample_size(single) == 1
    assert kl_to_uniform(single) == pytest.approx(math.log(n))


@quick
@given(st.lists(st.tuples(st.floats(-100, 100), st.floats(-100, 100)), min_size=2, max_size=30))
def test_correlation_is_numpys(pairs):
    x, y = (np.array(side) for side in zip(*pairs, strict=True))
    ours = correlation(torch.tensor(x), torch.tensor(y))
    assert -1 <= ours <= 1
    assert correlation(torch.tensor(y), torch.tensor(x)) == pytest.approx(ours)
    if min(x.std(), y.std()) > 1e-2:
        assert ours == pytest.approx(np.corrcoef(x, y)[0, 1], abs=1e-9)


def test_correlation_with_what_does_not_vary_is_zero():
    constant, counts = torch.full((7,), 0.1), torch.arange(7)
    assert correlation(constant, counts) == correlation(counts, constant) == correlation(constant, constant) == 0.0
    assert correlation(torch.tensor([2.0]), torch.tensor([3])) == 0.0


def test_correlation_of_whole_numbers_and_floats():
    counts = torch.tensor([1, 5, 9])
    assert correlation(counts.float() * 2 + 1, counts) == pytest.approx(1)
    assert correlation(-counts.float(), counts) == pytest.approx(-1)
    assert correlation(counts.float() * 1e-5, counts * 1000) == pytest.approx(1)

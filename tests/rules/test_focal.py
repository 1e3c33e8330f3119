"""focal against its formula, by hand and over random losses; by autograd the gradient of its weighted mean."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

import samplewise as sw
from samplewise.core.errors import SamplewiseError


def test_by_hand():
    """1 − e^−ln 2 = 1/2 and 1 − e^−ln 4 = 3/4: squared 1/4 and 9/16, together 13/16."""
    weights = sw.weights(sw.focal(gamma=2.0), [float(np.log(2)), float(np.log(4))])
    assert weights.tolist() == pytest.approx([2 * 4 / 13, 2 * 9 / 13], rel=1e-12)


@settings(max_examples=60, deadline=None)
@given(st.lists(st.floats(1e-3, 12), min_size=1, max_size=30), st.sampled_from([0.0, 0.5, 1.0, 2.0, 5.0]))
def test_the_formula(losses, gamma):
    factor = (1 - np.exp(-np.array(losses))) ** gamma
    want = factor / factor.mean()
    np.testing.assert_allclose(sw.weights(sw.focal(gamma=gamma), losses).numpy(), want, rtol=1e-9)


def test_small_losses_keep_their_ratio():
    """1 − e^−x is x there, to the last digit: a difference of two numbers near 1 would be noise."""
    weights = sw.weights(sw.focal(gamma=1.0), [1e-12, 3e-12])
    assert weights.tolist() == pytest.approx([0.5, 1.5], rel=1e-9)


def test_gamma_of_0_is_uniform_and_below_it_an_error():
    assert sw.weights(sw.focal(gamma=0), [1.0, 2.0, 9.0]).tolist() == [1.0, 1.0, 1.0]
    with pytest.raises(SamplewiseError, match=r"^gamma: expected a finite number of at least 0"):
        sw.focal(gamma=-1.0)


def test_a_sample_that_is_certain_is_left_out():
    assert torch.equal(sw.weights(sw.focal(), [0.0, 1.0]), torch.tensor([0.0, 2.0], dtype=torch.float64))

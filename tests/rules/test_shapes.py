"""LinUpper, Quadratic and Extremes against the equations of arXiv 2502.06733, written out in numpy."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

import samplewise as sw
from samplewise.types import SamplewiseError

RULES = {"lin_upper": sw.lin_upper, "quadratic": sw.quadratic, "extremes": sw.extremes}


def by_the_paper(name: str, losses: list[float], r: float, delta: float = 1.0) -> np.ndarray:
    """h maps [L_min, L_max] to [−δ, δ]; f reshapes it; the weights are a softmax of f / r."""
    L = np.array(losses)
    width = max(L.max() - L.min(), 1e-6)
    h = 2 * delta * L / width - delta * (L.max() + L.min()) / width
    f = {
        "lin_upper": np.minimum(h + delta, delta),
        "quadratic": 1 - h**2 / delta**2,
        "extremes": np.abs(h),
    }[name]
    g = np.exp(f / r)
    return g / g.sum()


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("lin_upper", [0.119, 0.232, 0.324, 0.324]),
        ("quadratic", [0.146, 0.354, 0.354, 0.146]),
        ("extremes", [0.330, 0.170, 0.170, 0.330]),
    ],
)
def test_by_hand(name, expected):
    weights = sw.weights(RULES[name](r=1.0), [1.0, 2.0, 3.0, 4.0]) / 4
    assert weights.tolist() == pytest.approx(expected, abs=5e-4)


@pytest.mark.parametrize("name", RULES)
@settings(max_examples=60, deadline=None)
@given(st.lists(st.floats(0.01, 12), min_size=2, max_size=30), st.sampled_from([0.1, 0.4, 1.0, 5.0]))
def test_the_equations(name, loss, r):
    if 0 < max(loss) - min(loss) < 1e-4:
        return  # the equations as printed subtract two large numbers there
    np.testing.assert_allclose(
        sw.weights(RULES[name](r=r), loss).numpy() / len(loss), by_the_paper(name, loss, r), rtol=1e-7, atol=1e-12
    )


@pytest.mark.parametrize("name", RULES)
def test_no_range_is_uniform(name):
    assert sw.weights(RULES[name](), [2.5]).tolist() == [1.0]
    assert sw.weights(RULES[name](r=0.01), [2.5] * 5).tolist() == [1.0] * 5
    nearly = sw.weights(RULES[name](), [1.0, 1.0 + 1e-9, 1.0 - 1e-9])
    assert nearly.tolist() == pytest.approx([1.0] * 3, abs=0.01), "a range below 1e-6 is not blown up to the whole one"


@pytest.mark.parametrize("name", RULES)
def test_only_the_place_within_the_range_matters(name):
    rule, loss = RULES[name](r=0.7), torch.tensor([0.2, 1.0, 3.0, 2.2], dtype=torch.float64)
    torch.testing.assert_close(sw.weights(rule, 1000 * loss + 5), sw.weights(rule, loss))


@pytest.mark.parametrize("name", RULES)
def test_extrema_are_over_the_samples_present(name):
    both = sw.chain(sw.band(drop_top=0.25), RULES[name](r=0.5))
    left = sw.weights(RULES[name](r=0.5), [1.0, 2.0, 3.0])
    assert sw.weights(both, [1.0, 2.0, 3.0, 900.0])[:3].tolist() == pytest.approx((left * 4 / 3).tolist())


@pytest.mark.parametrize("name", RULES)
@pytest.mark.parametrize("r", [0, -1.0, math.inf, math.nan, "1", None, True])
def test_bad_temperatures_are_named(name, r):
    with pytest.raises(SamplewiseError, match=r"^r: expected a finite temperature above 0"):
        RULES[name](r)

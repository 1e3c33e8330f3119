"""LinUpper, Quadratic and Extremes against the equations of arXiv 2502.06733, written out in numpy."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

import samplewise as sw
from samplewise.core.errors import SamplewiseError
from samplewise.core.samples import as_samples

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


@pytest.mark.parametrize("name", RULES)
@pytest.mark.parametrize("window", [None, 1])
def test_no_temperature_is_too_low(name, window):
    """Two samples are the ends of their range, where Quadratic is lowest: its weights still are weights."""
    rule = RULES[name](r=1e-4, window=window)
    state = rule.update(as_samples([1.0, 2.0]), torch.ones(2), rule.init())
    for samples in (as_samples([1.0, 2.0]), as_samples([1.0, 1.0, 2.0])):
        weights = sw.plan_step(rule, samples, state).weights
        assert weights[0] == (0 if name == "lin_upper" else 1)


# ---- over a window ----


@pytest.mark.parametrize("name", RULES)
def test_the_range_is_that_of_the_last_steps(name):
    """By the step's own extrema until three steps were seen, by those of the last three from then on."""
    rule = RULES[name](r=0.7, window=3)
    state, seen = rule.init(), []
    for number in range(7):
        loss = np.random.default_rng(number).uniform(number % 3, 5, 9)
        samples = as_samples(loss)
        assert rule.factor_ready(state) == (number >= 3)
        past = np.concatenate(seen[-3:]) if number >= 3 else loss
        ends = [past.min(), past.max()]
        clipped = np.clip(loss, *ends)
        expected = by_the_paper(name, [*clipped, *ends], 0.7)[:-2]  # the ends fix the range
        weights = sw.plan_step(rule, samples, state).weights.numpy()
        np.testing.assert_allclose(weights / 9, expected / expected.sum(), rtol=1e-9)
        if number >= 3:
            assert rule.factor is not None
            factor = rule.factor(samples, state).numpy()
            np.testing.assert_allclose(factor / factor.sum(), weights / 9, rtol=1e-12)
        seen.append(loss)
        state = rule.update(samples, torch.ones(9), state)


@pytest.mark.parametrize("name", RULES)
@pytest.mark.parametrize("window", [0, 2.0, True, "64"])
def test_bad_windows_are_named(name, window):
    with pytest.raises(SamplewiseError, match=r"^window: expected a whole number of steps"):
        RULES[name](window=window)

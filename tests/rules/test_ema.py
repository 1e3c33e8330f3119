"""The tilt over a running normalizer: its recursion, and the expected gradient of steps of two."""

import itertools
import math

import numpy as np
import pytest
import torch

import samplewise as sw
from samplewise.core.errors import SamplewiseError
from samplewise.core.samples import as_samples


@pytest.mark.parametrize("r", [0.5, 2.0, -1.0])
def test_the_normalizer_is_a_running_mean_of_the_exponentials(r):
    """Z ← ema·Z + (1 − ema)·mean exp(L / r), the first step's own at the start; a step is divided by the past Z."""
    rule, state, Z = sw.ir_dro(r=r, ema=0.75), {"shift": math.nan}, math.nan
    assert rule.norm == "count"
    assert rule.pointwise
    for seed in range(6):
        loss = np.random.default_rng(seed).uniform(0, 4, 5)
        u = np.exp(loss / r)
        plan = sw.plan_step(rule, as_samples(loss), state)
        np.testing.assert_allclose(plan.weights.numpy(), u / (u.mean() if seed == 0 else Z))
        np.testing.assert_allclose(plan.coefficients.numpy(), plan.weights.numpy() / 5)
        Z = u.mean() if seed == 0 else 0.75 * Z + 0.25 * u.mean()
        state = plan.state
        assert math.exp(float(state["shift"]) / r) == pytest.approx(Z)


def test_small_steps_have_the_tilted_gradient_of_the_whole_set_on_average():
    """Over all pairs of ten samples, at the true normalizer: exact; pairs normalized by themselves are far off."""
    generator = torch.Generator().manual_seed(0)
    loss, rows = torch.rand(10, generator=generator).double() * 3, torch.randn(10, 4, generator=generator).double()
    rule = sw.ir_dro(r=0.6, ema=0.9)
    whole = as_samples(loss)
    state = rule.update(whole, torch.ones(10), rule.init())
    full = sw.plan_step(sw.ir_dro(r=0.6), whole, sw.ir_dro(r=0.6).init()).coefficients @ rows

    def mean_over_pairs(each: sw.Rule) -> torch.Tensor:
        steps = []
        for pair in itertools.combinations(range(10), 2):
            plan = sw.plan_step(each, whole.select(torch.tensor(pair)), state)
            steps.append(plan.coefficients @ rows[list(pair)])
        return torch.stack(steps).mean(0)

    torch.testing.assert_close(mean_over_pairs(rule), full, rtol=1e-9, atol=1e-12)
    assert (mean_over_pairs(sw.ir_dro(r=0.6)) - full).norm() > 0.2 * full.norm()


def test_losses_of_another_size_altogether_start_anew():
    rule = sw.ir_dro(r=0.1, ema=0.9)
    state = rule.update(as_samples([1.0, 1.1]), torch.ones(2), rule.init())
    plan = sw.plan_step(rule, as_samples([9e3, 9e3 + 0.1]), state)
    torch.testing.assert_close(plan.weights, sw.weights(sw.ir_dro(r=0.1), [9e3, 9e3 + 0.1]))
    assert plan.state["shift"] == pytest.approx(9e3, abs=1)
    down = sw.plan_step(rule, as_samples([1e-6, 0.1]), plan.state)
    torch.testing.assert_close(down.weights, sw.weights(sw.ir_dro(r=0.1), [1e-6, 0.1]))


@pytest.mark.parametrize(
    ("options", "argument"),
    [({"ema": 1.0}, "ema"), ({"ema": 0}, "ema"), ({"ema": "0.9"}, "ema"), ({"kl": 0.1, "ema": 0.9}, "ema"),
     ({"ess": 0.5, "ema": 0.9}, "ema"), ({"r": 0.0, "ema": 0.9}, "r")],
)  # fmt: skip
def test_bad_arguments_are_named(options, argument):
    with pytest.raises(SamplewiseError, match=rf"^{argument}: expected "):
        sw.ir_dro(**options)

"""flow against its formula, by hand and over random losses; what it remembers, and what it is told of all the data."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

import samplewise as sw
from samplewise.core.errors import SamplewiseError
from samplewise.core.samples import as_samples

NONE = math.nan


def test_by_hand():
    """The median of 1, 2, 4 is 2: e^−½, e^−1 and e^−2."""
    want = np.exp(-np.array([0.5, 1.0, 2.0]))
    assert sw.weights(sw.flow(), [1.0, 2.0, 4.0]).tolist() == pytest.approx((want / want.mean()).tolist())
    want = np.exp(-np.array([1.0, 2.0]) / 0.5)
    assert sw.weights(sw.flow(tau=0.5), [1.0, 2.0]).tolist() == pytest.approx((want / want.mean()).tolist())


@settings(max_examples=60, deadline=None)
@given(st.lists(st.floats(1e-3, 12), min_size=2, max_size=30, unique=True), st.booleans())
def test_the_formula(losses, stored):
    """Of stored losses where there are any: the model's own do not matter then."""
    shown = list(reversed(losses)) if stored else losses
    want = np.exp(-np.array(losses) / np.median(losses))
    got = sw.weights(sw.flow(), shown, stored_loss=losses if stored else None)
    np.testing.assert_allclose(got.numpy(), want / want.mean(), rtol=1e-9)


def test_the_first_visit_counts_from_then_on():
    """Samples 1 and 2 come back with other losses: those of their first visit weigh them."""
    weigher = sw.Weigher(sw.flow(tau=2.0))
    weigher([1.0, 3.0], ids=[1, 2])
    again = weigher([9.0, 0.1, 5.0], ids=[2, 1, 3])
    want = np.exp(-np.array([3.0, 1.0, 5.0]) / 2)
    assert again.tolist() == pytest.approx((want / want.mean()).tolist())


def test_a_stored_loss_wins_over_the_first_visit_and_a_missing_one_does_not():
    weigher = sw.Weigher(sw.flow(tau=1.0))
    weigher([1.0, 3.0], ids=[1, 2], stored_loss=[NONE, 0.5])
    again = weigher([9.0, 9.0], ids=[1, 2], stored_loss=[NONE, 0.5])
    want = np.exp(-np.array([1.0, 0.5]))
    assert again.tolist() == pytest.approx((want / want.mean()).tolist())
    assert weigher.state["ids"].tolist() == [1], "the other's loss comes with the data"


def test_the_median_is_of_all_that_was_seen_each_sample_once():
    rule = sw.flow()
    state = rule.init()
    steps = [([1.0, 2.0, 9.0], [1, 2, 3]), ([7.0, 7.0, 7.0], [1, 2, 3]), ([4.0, 5.0], [4, 5])]
    for (losses, ids), median in zip(steps, (2.0, 2.0, 4.0), strict=True):
        state = sw.plan_step(rule, as_samples(losses, ids=ids), state).state
        assert state["tau"] == median


def test_the_median_of_all_the_data_holds_from_the_first_step_on():
    rule = sw.chain(sw.uniform(), sw.flow(), sw.warmup(1, sw.flow()))
    assert rule.begin_data is not None
    state = rule.begin_data(torch.tensor([1.0, 2.0, 6.0, NONE]), rule.init())
    assert rule.factor_ready(state)
    assert (state["1.tau"], state["2.rule.tau"]) == (2.0, 2.0)
    samples = as_samples([5.0, 5.0], stored_loss=[1.0, 6.0])
    plan = sw.plan_step(rule, samples, state)
    want = np.exp(-np.array([0.5, 3.0]))
    assert plan.weights.tolist() == pytest.approx((want / want.mean()).tolist())
    assert plan.state["1.tau"] == 2.0
    assert not len(plan.state["1.ids"]), "nothing to remember"


def test_a_number_is_not_changed_by_the_data():
    rule = sw.flow(tau=1.5)
    assert rule.begin_data is not None
    torch.testing.assert_close(rule.begin_data(torch.tensor([2.0, 2.0]), rule.init()), rule.init(), equal_nan=True)


@pytest.mark.parametrize("losses", [[2.5, 2.5, 2.5, NONE], [0.0, 0.0, 0.0, 4.0]])
def test_losses_whose_median_is_no_temperature_are_named(losses):
    rule = sw.flow()
    assert rule.begin_data is not None
    with pytest.raises(SamplewiseError, match=r"^tau: expected stored losses that differ.*Score the data"):
        rule.begin_data(torch.tensor(losses), rule.init())
    with pytest.raises(SamplewiseError, match=r"^tau: expected at least 2 samples whose stored losses differ"):
        sw.weights(rule, losses[:3])


def test_a_step_of_equal_losses_counts_as_one_without_effect():
    plan = sw.plan_step(sw.flow(), as_samples([2.0, 2.0]), sw.flow().init())
    assert plan.figures["no_effect"] == 1
    assert plan.weights.tolist() == [1.0, 1.0]


def test_of_excess_losses():
    """Stored losses become excess losses as the others do."""
    got = sw.weights(sw.by("excess", sw.flow(tau=1.0)), [9.0, 9.0], reference=[1.0, 2.0], stored_loss=[2.0, 5.0])
    want = np.exp(-np.array([1.0, 3.0]))
    assert got.tolist() == pytest.approx((want / want.mean()).tolist())


@pytest.mark.parametrize("tau", [0, -1, "mean", math.inf, True])
def test_bad_tau(tau):
    with pytest.raises(SamplewiseError, match=r'^tau: expected a number above 0, in nats, or "median"'):
        sw.flow(tau=tau)

"""Thresholds of a window of past steps: those of numpy on the pooled losses, pointwise once it is full."""

import math
import re

import numpy as np
import pytest
import torch

import samplewise as sw
from samplewise.core.samples import Samples, as_samples


def step(seed: int, n: int = 16) -> Samples:
    loss = 3 + torch.randn(n, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    return as_samples(loss)


RULES = {  # what is kept of a pool of losses, sorted from the highest down
    "band(drop_top=0.1, drop_bottom=0.2{})": lambda x: x[int(0.1 * len(x) + 1e-9) : len(x) - int(0.2 * len(x) + 1e-9)],
    "top_k(share=0.3{})": lambda x: x[: int(0.3 * len(x) + 1e-9)],
    "mid_ranking(frac=0.2, portion=2{})": lambda x: x[2 * int(0.2 * len(x)) : 3 * int(0.2 * len(x))],
}


@pytest.mark.parametrize("text", RULES)
def test_thresholds_are_those_of_the_last_steps_taken_together(text):
    """Steps of different sizes; by the step's own ranks until three were seen, by the pool of three from then on."""
    rule, plain = sw.parse_rule(text.format(", window=3")), sw.parse_rule(text.format(""))
    state, seen = rule.init(), []
    for number in range(8):
        samples = step(number, 16 - number % 3)
        plan = sw.plan_step(rule, samples, state)
        assert rule.factor_ready(state) == (number >= 3)
        if number < 3:
            assert torch.equal(plan.weights, sw.plan_step(plain, samples, plain.init()).weights)
        else:
            kept = RULES[text](np.sort(np.concatenate(seen[-3:]))[::-1])
            pool = np.concatenate(seen[-3:])
            low = kept[-1] if kept[-1] > pool.min() else -math.inf
            high = kept[0] if kept[0] < pool.max() else math.inf
            expected = (samples.loss.numpy() >= low) & (samples.loss.numpy() <= high)
            assert ((plan.weights > 0).numpy() == expected).all()
            assert rule.factor is not None
            assert ((rule.factor(samples, state) > 0).numpy() == expected).all()
        seen.append(samples.loss.numpy())
        state = plan.state
    assert isinstance(state["losses"], torch.Tensor)
    assert len(state["losses"]) == sum(len(x) for x in seen[-3:]), "no more than the window is kept"


def test_shares_finer_than_one_of_a_step():
    """A tenth of 4 is none; over 50 steps it is a tenth."""
    rule = sw.top_k(share=0.1, window=50)
    state, kept = rule.init(), 0.0
    for seed in range(250):
        plan = sw.plan_step(rule, step(seed, 4), state)
        if seed >= 50 and rule.factor is not None:
            kept += float((rule.factor(step(seed, 4), state) > 0).sum())
        state = plan.state
    assert kept / 800 == pytest.approx(0.1, abs=0.03)


def test_a_step_without_a_sample_between_the_thresholds_keeps_the_nearest():
    rule = sw.band(drop_top=0.25, drop_bottom=0.25, window=1)
    state = rule.update(as_samples([1.0, 2.0, 3.0, 4.0]), torch.ones(4), rule.init())
    assert (state["low"], state["high"]) == (2.0, 3.0)
    assert sw.plan_step(rule, as_samples([9.0, 8.0, 0.0]), state).weights.tolist() == [0.0, 0.0, 3.0]
    assert sw.plan_step(rule, as_samples([9.0, 2.5, 0.0]), state).weights.tolist() == [0.0, 3.0, 0.0]


def test_a_window_too_small_for_its_share_says_so():
    rule = sw.band(drop_top=0.05, window=2)
    state = rule.init()
    for number in range(3):  # steps go on, each with a word
        plan = sw.plan_step(rule, step(number, 8), state)
        assert re.search(r"drop_top: .*window of 2 steps of together at least 20 samples.*got 16", str(plan.shortfall))
        assert plan.weights.tolist() == [1.0] * 8
        state = plan.state
    for number in range(3, 6):
        plan = sw.plan_step(rule, step(number, 10), state)
        state = plan.state
    assert plan.figures["no_effect"] == 0.0

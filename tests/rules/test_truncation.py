"""truncate against a list of past losses, and its state."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

import samplewise as sw
from samplewise.core.errors import SamplewiseError
from samplewise.core.samples import as_samples
from samplewise.rules import resolve
from samplewise.rules.truncation import MEMORY


def test_by_hand():
    """Of 1, 2, 3, 4, 5 a share of 0.4 leaves out 4 and 5: what is above 3 goes, 3 itself stays."""
    weigher = sw.Weigher(sw.truncate(share=0.4, warmup=1))
    assert weigher([5.0, 4.0, 3.0, 2.0, 1.0]).tolist() == [1.0] * 5
    assert weigher([3.0, 3.1, 0.5, 9.0]).tolist() == [2.0, 0.0, 2.0, 0.0]


@settings(max_examples=40, deadline=None)
@given(st.lists(st.lists(st.floats(0, 9), min_size=1, max_size=8), min_size=1, max_size=6),
       st.sampled_from([0.05, 0.25, 0.5]), st.integers(0, 3))  # fmt: skip
def test_the_formula(steps, share, warmup):
    """By numpy: what is at most the quantile of all losses before; the lowest where nothing is."""
    rule, past = sw.truncate(share=share, warmup=warmup), np.zeros(0)
    state = rule.init()
    for number, losses in enumerate(steps):
        cutoff = np.sort(past)[len(past) - 1 - math.floor(share * len(past) + 1e-9)] if len(past) else math.inf
        kept = np.array(losses) <= (cutoff if number >= warmup else math.inf)
        kept = kept if kept.any() else np.array(losses) == min(losses)
        plan = sw.plan_step(rule, as_samples(losses), state)
        assert plan.weights.tolist() == pytest.approx((kept / kept.mean()).tolist())
        state, past = plan.state, np.concatenate([past, losses])


def test_the_latest_losses_alone_are_remembered():
    rule = sw.truncate(share=0.5, warmup=0)
    state = rule.update(as_samples(torch.full((MEMORY,), 9.0)), torch.ones(MEMORY), rule.init())
    state = rule.update(as_samples(torch.full((MEMORY - 1,), 1.0)), torch.ones(MEMORY - 1), state)
    assert len(state["rule.losses"]) == MEMORY
    assert state["rule.cutoff"] == 1.0


def test_a_warm_up_as_a_share_of_the_run():
    assert repr(resolve(sw.truncate(share=0.1, warmup=0.25), 40)) == "truncate(share=0.1, warmup=10)"
    assert sw.truncate(share=0.1, warmup=3).for_run_length is None


def test_it_is_pointwise_before_and_after_the_warm_up():
    rule = sw.truncate(share=0.1, warmup=2)
    assert rule.pointwise
    assert rule.factor_ready(rule.init())


@pytest.mark.parametrize("arguments", [(0.0, 5), (1.0, 5), (0.1, -1), (0.1, 1.5), (0.1, None)])
def test_bad_numbers(arguments):
    with pytest.raises(SamplewiseError, match=r"^(share|steps): expected"):
        sw.truncate(*arguments)

"""An r that sets itself: distances are reached, what cannot be is counted, a lagged r is that of the step before."""

import math
import re

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

import samplewise as sw
from samplewise.core.errors import SamplewiseError
from samplewise.core.rule import Rule, State
from samplewise.core.samples import as_samples

quick = settings(max_examples=150, deadline=None)
losses = st.lists(st.floats(1e-6, 1e4), min_size=2, max_size=40)
narrow = st.lists(st.floats(1.0, 1.0 + 1e-6), min_size=2, max_size=10)
Array = NDArray[np.float64]


def kl(p: Array, q: Array) -> float:
    kept = p > 0
    return float((p[kept] * np.log(p[kept] / q[kept])).sum())


def share(p: Array, q: Array) -> float:
    return float(1 / (p**2 / q).sum())


def one_step(rule: Rule, loss: list[float], entry: Array | None = None) -> tuple[Array, Array, State]:
    """(p, q, state after): weights of sum 1 before and after the rule."""
    samples = as_samples(loss)
    weights = torch.ones_like(samples.loss) if entry is None else torch.tensor(entry)
    out = rule.apply(weights, samples, rule.init()).numpy()
    q = weights.numpy()
    return out / out.sum(), q / q.sum(), rule.update(samples, weights, rule.init())


def check(kind: str, target: float, loss: list[float], entry: Array | None = None) -> None:
    rule = sw.ir_dro(**{kind: target})  # pyright: ignore[reportArgumentType]
    given = np.ones(len(loss)) if entry is None else entry
    farthest = math.log(given.sum() / given.min())
    goal = target if kind == "kl" else -math.log(target)
    if goal > farthest + 1e-6:
        short = rule.shortfall(torch.tensor(given), as_samples(loss), rule.init())
        assert re.search(rf"^{kind}: .*at least \d+ samples.*got {len(loss)} samples", str(short))
        return
    if goal > farthest - 1e-6:
        return
    p, q, state = one_step(rule, loss, entry)
    top = np.array(loss) == max(loss)
    end = q[top].sum()
    reachable = -math.log(end) > target + 1e-6 if kind == "kl" else end < target - 1e-6
    if reachable:
        assert (kl if kind == "kl" else share)(p, q) == pytest.approx(target, abs=1e-6, rel=1e-6)
        assert state["unattained"] == 0
        r = state["r"]
        tilted = q * np.exp((np.array(loss) - max(loss)) / r)
        np.testing.assert_allclose(p, tilted / tilted.sum(), rtol=1e-9, atol=1e-300)
    elif (-math.log(end) < target - 1e-6) if kind == "kl" else end > target + 1e-6:
        np.testing.assert_allclose(p, np.where(top, q, 0) / end)
        assert (state["unattained"], state["r"]) == (1, 0.0)


@quick
@given(st.one_of(losses, narrow), st.sampled_from([1e-6, 1e-3, 0.1, 0.5, 1.0, 3.0]))
def test_the_kl_is_reached(loss, target):
    check("kl", target, loss)


@quick
@given(st.one_of(losses, narrow), st.sampled_from([0.001, 0.05, 0.3, 0.5, 0.9, 0.999999]))
def test_the_effective_sample_size_is_reached(loss, target):
    check("ess", target, loss)


@quick
@given(losses, st.data())
def test_distances_are_from_the_weights_on_entry(loss, data):
    entry = np.array(data.draw(st.lists(st.floats(1e-3, 1e3), min_size=len(loss), max_size=len(loss))))
    check("kl", data.draw(st.floats(0.01, 2.0)), loss, entry)
    check("ess", data.draw(st.floats(0.05, 0.95)), loss, entry)


@pytest.mark.parametrize("r", [0.2, 0.3, 1.0, 20.0])
def test_it_finds_the_r_that_made_the_distance(r):
    loss = np.array([1.0, 2.0, 3.0, 4.0])
    p = np.exp(loss / r) / np.exp(loss / r).sum()
    q = np.full(4, 0.25)
    assert one_step(sw.ir_dro(kl=kl(p, q)), [1, 2, 3, 4])[2]["r"] == pytest.approx(r, rel=1e-6)
    assert one_step(sw.ir_dro(ess=share(p, q)), [1, 2, 3, 4])[2]["r"] == pytest.approx(r, rel=1e-6)


def test_a_million_samples_of_every_size():
    loss = torch.exp(torch.linspace(math.log(1e-6), math.log(1e4), 1_000_000, dtype=torch.float64))
    assert sw.plan_step(sw.ir_dro(kl=0.5), as_samples(loss), sw.ir_dro(kl=0.5).init()).figures["kl"] == pytest.approx(
        0.5
    )
    p = sw.weights(sw.ir_dro(ess=0.01), loss)
    assert float(p.sum() ** 2 / (p**2).sum()) == pytest.approx(10_000)


@pytest.mark.parametrize("rule", [sw.ir_dro(kl=0.7), sw.ir_dro(ess=0.4), sw.ir_dro(kl=0.7, lagged=True)], ids=repr)
def test_tied_maxima_share_the_weight_and_the_step_is_counted(rule):
    loss = [1.0, 3.0, 3.0, 3.0]
    p, _, state = one_step(rule, loss)
    assert p.tolist() == pytest.approx([0, 1 / 3, 1 / 3, 1 / 3])
    again = rule.update(as_samples(loss), torch.ones(4), state)
    assert (state["unattained"], again["unattained"]) == (1, 2)


@pytest.mark.parametrize(
    ("rule", "least"),
    [
        (sw.ir_dro(kl=0.1), 2), (sw.ir_dro(kl=2.0), 8), (sw.ir_dro(ess=0.5), 2), (sw.ir_dro(ess=0.1), 10),
        (sw.warmup(3, sw.ir_dro(ess=0.1, lagged=True)), 10),
    ],
    ids=repr,
)  # fmt: skip
def test_a_target_that_no_losses_reach_names_the_least_number(rule, least):
    """Wherever a short step comes, the run goes on, and the step is counted."""

    def step(n: int, state: State) -> sw.Plan:
        return sw.plan_step(rule, as_samples(np.linspace(1, 2, n)), state)

    first = step(least - 1, rule.init())
    assert re.search(rf"of at least {least} samples.*got {least - 1} samples", str(first.shortfall))
    second = step(least, first.state)
    assert second.shortfall is None
    last = step(1, second.state)
    assert last.figures["no_effect"] == 1.0
    assert sum(int(value) for key, value in last.state.items() if key.endswith("unattained")) == 2


def test_one_sample_of_two_is_exactly_half():
    p, _, state = one_step(sw.ir_dro(ess=0.5), [1.0, 2.0])
    assert p.tolist() == [0.0, 1.0]
    assert state["unattained"] == 0


def test_a_lagged_r_is_the_one_that_the_step_before_would_have_needed():
    lagged, exact = sw.ir_dro(kl=0.2, lagged=True), sw.ir_dro(kl=0.2)
    generator = torch.Generator().manual_seed(0)
    steps = [as_samples(torch.rand(32, generator=generator, dtype=torch.float64) * 3) for _ in range(5)]
    state, needed = lagged.init(), None
    for samples in steps:
        assert lagged.factor_ready(state) == (needed is not None)
        p = sw.plan_step(lagged, samples, state)
        reference = sw.plan_step(exact if needed is None else sw.ir_dro(r=needed), samples, exact.init())
        torch.testing.assert_close(p.weights, reference.weights, rtol=1e-12, atol=0)
        needed, state = float(sw.plan_step(exact, samples, exact.init()).state["r"]), p.state
        assert state["r"] == needed
        assert lagged.factor is not None
        assert float(lagged.factor(samples, state).mean()) == pytest.approx(1), "the shift is that of the new r"


def test_a_lagged_r_outlives_a_step_that_has_none():
    rule = sw.ir_dro(kl=0.2, lagged=True)
    state = sw.plan_step(rule, as_samples([1.0, 2.0, 4.0, 7.0]), rule.init()).state
    after = sw.plan_step(rule, as_samples([5.0, 5.0]), state).state
    assert after["r"] == state["r"] > 0
    assert after["unattained"] == 1
    assert rule.factor_ready(after)
    never = sw.plan_step(rule, as_samples([5.0, 5.0]), rule.init()).state
    assert not rule.factor_ready(never)


def test_lagged_is_pointwise_and_solved_is_not():
    assert sw.ir_dro(kl=0.1, lagged=True).pointwise
    assert not sw.ir_dro(kl=0.1).pointwise
    assert not sw.ir_dro(ess=0.1).pointwise


# ---- r below 0 ----


@quick
@given(losses, st.sampled_from([-0.1, -1.0, -50.0]))
def test_a_negative_r_is_the_tilt_of_the_negated_losses(loss, r):
    turned = sw.weights(sw.ir_dro(r=-r), [-x for x in loss])
    torch.testing.assert_close(sw.weights(sw.ir_dro(r=r), loss), turned, rtol=1e-9, atol=1e-300)


def test_a_negative_r_by_hand():
    weights = sw.weights(sw.ir_dro(r=-1.0), [1.0, 2.0, 3.0, 4.0]) / 4
    assert weights.tolist() == pytest.approx([0.644, 0.237, 0.087, 0.032], abs=5e-4)
    assert sw.weights(sw.ir_dro(r=-1e-300), [3.0, 1.0, 2.0]).tolist() == [0.0, 3.0, 0.0]


@pytest.mark.parametrize("r", [-1.0, 1.0, -1e-3, 1e-300, -1e-300, 1e300])
def test_the_shift_is_a_number_whatever_r(r):
    rule, samples = sw.ir_dro(r=r), as_samples([1e-6, 2.0, 1e4])
    shift = float(rule.update(samples, torch.ones(3), rule.init())["shift"])
    assert 1e-6 <= shift <= 1e4


# ---- bad input ----


@pytest.mark.parametrize(
    ("options", "argument"),
    [
        ({"kl": 0}, "kl"), ({"kl": -0.1}, "kl"), ({"kl": math.inf}, "kl"), ({"kl": math.nan}, "kl"),
        ({"kl": "1"}, "kl"), ({"kl": True}, "kl"),
        ({"ess": 0}, "ess"), ({"ess": 1}, "ess"), ({"ess": 1.5}, "ess"), ({"ess": -0.5}, "ess"),
        ({"ess": math.nan}, "ess"), ({"ess": "half"}, "ess"),
        ({"r": 1.0, "kl": 0.1}, "r, kl"), ({"kl": 0.1, "ess": 0.5}, "kl, ess"),
        ({"r": 1.0, "kl": 0.1, "ess": 0.5}, "r, kl, ess"),
        ({"lagged": True}, "lagged"), ({"r": 1.0, "lagged": True}, "lagged"), ({"kl": 0.1, "lagged": 1}, "lagged"),
    ],
)  # fmt: skip
def test_bad_arguments_are_named(options, argument):
    with pytest.raises(SamplewiseError, match=rf"^{argument}: expected "):
        sw.ir_dro(**options)

"""Group DRO and DoReMi against a loop over their equations, by hand, and on two domains of which one is learned."""

import math
from itertools import pairwise

import numpy as np
import pytest
import torch

import samplewise as sw
from samplewise.core.errors import SamplewiseError
from samplewise.core.samples import Samples, as_samples
from samplewise.rules import group_weights, mean_group_weights

LOSS, GROUP = [1.0, 2.0, 3.0, 4.0], [0, 0, 0, 1]


def step(seed: int, groups: tuple[int, ...], n: int = 12) -> Samples:
    rng = np.random.default_rng(seed)
    group = rng.choice(groups, n)
    return as_samples(rng.uniform(0, 4, n), rng.integers(1, 50, n), reference=rng.uniform(0, 4, n), group=group)


def test_by_hand():
    """Means 2 and 4 at η = ½: q = (e¹, e²) / (e¹ + e²), and the first group's three samples share theirs."""
    rule, samples = sw.group_dro(step_size=0.5), as_samples(LOSS, group=GROUP)
    first = sw.plan_step(rule, samples, rule.init())
    assert (first.weights / 4).tolist() == pytest.approx([1 / 6, 1 / 6, 1 / 6, 1 / 2])
    q = math.e / (math.e + math.e**2), math.e**2 / (math.e + math.e**2)
    assert group_weights(first.state) == pytest.approx({0: q[0], 1: q[1]})
    second = sw.plan_step(rule, samples, first.state)
    assert (second.weights / 4).tolist() == pytest.approx([q[0] / 3] * 3 + [q[1]])


def test_doremi_by_hand():
    """Token means of the clipped excess: (0·1 + 1·3 + 2·4) / 8 = 1.375 and 0 at η = 1, smoothed by 0.2."""
    rule = sw.by("excess", sw.doremi(step_size=1.0, smoothing=0.2))
    samples = as_samples(LOSS, [1, 3, 4, 9], reference=[1.5, 1.0, 1.0, 4.5], group=GROUP)
    state = sw.plan_step(rule, samples, rule.init()).state
    grown = math.exp(1.375)
    assert group_weights(state) == pytest.approx({0: 0.8 * grown / (grown + 1) + 0.1, 1: 0.8 / (grown + 1) + 0.1})
    assert mean_group_weights(state) == pytest.approx(group_weights(state))


def reference(samples: Samples, q: dict[int, float], eta: float, c: float | None) -> dict[int, float]:
    """One update by the papers' equations; c is None for group DRO."""
    assert samples.group is not None
    assert samples.reference is not None
    L, n, g = samples.loss.numpy(), samples.tokens.numpy(), samples.group.numpy()
    excess = np.maximum(L - samples.reference.numpy(), 0)
    new = {}
    for k in set(g.tolist()):
        mean = L[g == k].mean() if c is None else (n * excess)[g == k].sum() / n[g == k].sum()
        new[k] = q[k] * math.exp(eta * mean)
    mass, total = sum(q[k] for k in new), sum(new.values())
    mixed = {k: (1 - (c or 0)) * mass * value / total + (c or 0) * mass / len(new) for k, value in new.items()}
    return q | mixed


@pytest.mark.parametrize(
    ("rule", "eta", "c"),
    [(sw.group_dro(step_size=0.3), 0.3, None), (sw.by("excess", sw.doremi(0.8, 0.05)), 0.8, 0.05)],
    ids=["group_dro", "doremi"],
)
def test_the_equations_over_steps_in_which_groups_come_and_go(rule, eta, c):
    """Absent groups stay as they were, and a new one starts with the mean."""
    state, q, path = rule.init(), {}, []
    for number, groups in enumerate([(0, 1), (0, 1), (1, 7), (7,), (0, 1, 7, -3), (0, -3)]):
        samples = step(number, groups)
        assert samples.group is not None
        new = sorted(set(samples.group.tolist()) - set(q))
        q = {k: v * len(q) / (len(q) + len(new)) for k, v in q.items()} | {k: 1 / (len(q) + len(new)) for k in new}
        plan = sw.plan_step(rule, samples, state)
        counts = {k: samples.group.tolist().count(k) for k in q}
        expected = np.array([q[k] / counts[k] for k in samples.group.tolist()])
        np.testing.assert_allclose(plan.weights.numpy() / 12, expected / expected.sum(), rtol=1e-9)
        q = reference(samples, q, eta, c)
        state = plan.state
        path.append(q)
        assert group_weights(state) == pytest.approx(q)
        assert math.fsum(group_weights(state).values()) == pytest.approx(1)
    if c is not None:
        mean = {k: sum(each.get(k, 0.0) for each in path) / len(path) for k in q}
        assert mean_group_weights(state) == pytest.approx(mean)
        assert math.fsum(mean.values()) == pytest.approx(1)


@pytest.mark.parametrize(
    "text", ["group_dro(step_size=0.1)", 'by("excess", doremi(step_size=0.5))', "chain(group_dro(0.1), ir_dro(r=5))"]
)
def test_weight_moves_to_the_domain_of_larger_loss_and_back_when_it_is_learned(text):
    rule = sw.parse_rule(text)
    state, share = rule.init(), []
    for number in range(120):
        gap = 2.0 if number < 40 else -2.0  # learned: now the other is the harder
        loss = 2 + 0.1 * torch.rand(8, generator=torch.Generator().manual_seed(number), dtype=torch.float64)
        loss[4:] += gap
        samples = as_samples(loss, reference=torch.ones(8), group=[0] * 4 + [1] * 4)
        plan = sw.plan_step(rule, samples, state)
        share.append(float(plan.weights[4:].sum() / 8))
        state = plan.state
    assert share[0] == pytest.approx(0.5, abs=0.1)
    assert share[39] > 0.9
    assert share[-1] < 0.1
    assert all(a < b + 0.03 for a, b in pairwise(share[:40]))


def test_weights_on_entry_part_a_groups_weight_and_make_its_mean():
    samples = as_samples(LOSS, weight=[3.0, 1.0, 0.0, 2.0], group=GROUP)
    rule = sw.chain(sw.column_weights(), sw.group_dro(step_size=1.0))
    plan = sw.plan_step(rule, samples, rule.init())
    assert (plan.weights / 4).tolist() == pytest.approx([3 / 8, 1 / 8, 0, 1 / 2])
    means = (3 * 1 + 1 * 2) / 4, 4.0
    total = math.exp(means[0]) + math.exp(means[1])
    assert group_weights(plan.state) == pytest.approx({0: math.exp(means[0]) / total, 1: math.exp(means[1]) / total})


def test_a_hopeless_group_can_come_back():
    rule = sw.group_dro(step_size=1.0)
    state = rule.init()
    for loss in [1000.0] * 5 + [-1000.0] * 5:
        state = sw.plan_step(rule, as_samples([0.0, loss], group=[0, 1]), state).state
        assert all(value > 0 for value in group_weights(state).values())
    assert group_weights(state)[0] > 0.99


def test_groups_that_are_not_there():
    with pytest.raises(SamplewiseError, match=r"^group: .*group_dro.*column group"):
        sw.weights(sw.group_dro(), LOSS)
    assert group_weights({}) == mean_group_weights({}) == {}
    assert mean_group_weights(sw.doremi().init()) == {}


@pytest.mark.parametrize(
    ("make", "argument"),
    [
        *[(lambda x=x: sw.group_dro(x), "step_size") for x in (0, -1.0, math.inf, math.nan, "1", True)],
        (lambda: sw.doremi(step_size=0), "step_size"), (lambda: sw.doremi(smoothing=1.0), "smoothing"),
        (lambda: sw.doremi(smoothing=-0.1), "smoothing"),
    ],
)  # fmt: skip
def test_bad_arguments_are_named(make, argument):
    with pytest.raises(SamplewiseError, match=rf"^{argument}: expected "):
        make()

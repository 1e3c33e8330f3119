"""χ² and CVaR: against general solvers of the problems that define them, by hand, and at the ends of their range."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from scipy.optimize import linprog, minimize

import samplewise as sw
from samplewise.core.errors import SamplewiseError
from samplewise.core.rule import Rule
from samplewise.core.samples import as_samples

quick = settings(max_examples=100, deadline=None)
Array = NDArray[np.float64]
losses = st.lists(st.floats(1e-6, 1e4), min_size=2, max_size=30)
radii = st.sampled_from([1e-6, 0.01, 0.1, 0.5, 1.0, 4.0, 100.0])


def shares(rule: Rule, loss: object, entry: Array | None = None) -> Array:
    samples = as_samples(loss)
    weights = torch.ones_like(samples.loss) if entry is None else torch.tensor(entry)
    out = rule.apply(weights, samples, rule.init()).numpy()
    return out / out.sum()


def radius(p: Array, q: Array) -> float:
    """½ Σ q (p/q − 1)², which is (1/2N) Σ (N p − 1)² for q = 1/N."""
    return float(0.5 * (q * (p / q - 1) ** 2).sum())


# ---- χ² ----


def test_chi2_by_hand():
    """Losses (1,2,3,4), mean square deviation 1.25: p = (1 + deviation·√(2ρ/1.25)) / 4 while none is below 0."""
    scale = math.sqrt(2 * 0.1 / 1.25)
    expected = [(1 + dev * scale) / 4 for dev in (-1.5, -0.5, 0.5, 1.5)]
    assert shares(sw.chi2_dro(rho=0.1), [1, 2, 3, 4]) == pytest.approx(expected)
    assert expected == pytest.approx([0.1, 0.2, 0.3, 0.4])
    assert shares(sw.chi2_dro(rho=1.5), [1, 2, 3, 4]) == pytest.approx([0, 0, 0, 1])
    assert shares(sw.chi2_dro(rho=0.5), [1, 2, 4, 4]) == pytest.approx([0, 0, 0.5, 0.5])
    assert shares(sw.chi2_dro(rho=1e-12), [1, 2, 3, 4]) == pytest.approx([0.25] * 4, abs=1e-6)


def searched(loss: Array, q: Array, rho: float) -> Array:
    """p ∝ q·(L − η)₊ with η by bisection on the radius: the condition for an optimum, without the sort."""
    low, high = loss.min() - 1e12 * (np.ptp(loss) + 1e-300), loss.max()

    def at(eta: float) -> Array:
        u = q * np.maximum(loss - eta, 0)
        return u / u.sum() if u.sum() > 0 else np.where(loss == loss.max(), q, 0) / q[loss == loss.max()].sum()

    for _ in range(300):
        middle = (low + high) / 2
        low, high = (middle, high) if radius(at(middle), q) < rho else (low, middle)
    return at(low)


@quick
@given(losses, radii, st.data())
def test_chi2_is_what_bisection_finds(loss, rho, data):
    n = len(loss)
    entry = np.array(data.draw(st.one_of(st.just([1.0] * n), st.lists(st.floats(0.01, 10), min_size=n, max_size=n))))
    q = entry / entry.sum()
    p = shares(sw.chi2_dro(rho), loss, entry)
    end = q[np.array(loss) == max(loss)].sum()
    reach = 0.5 * (1 / end - 1)
    if reach > rho:
        assert radius(p, q) == pytest.approx(rho, rel=1e-6, abs=1e-9)
    else:
        assert radius(p, q) == pytest.approx(reach, abs=1e-12)
    theirs = searched(np.array(loss), q, rho)
    value = (p * loss).sum()
    assert value == pytest.approx((theirs * loss).sum(), rel=1e-6)


@pytest.mark.parametrize("rho", [0.05, 0.4, 1.2])
@pytest.mark.parametrize("seed", range(4))
def test_chi2_is_optimal(rho, seed):
    """A general solver, which knows the problem and not the closed form, finds the same p and no larger value."""
    rng = np.random.default_rng(seed)
    loss = rng.uniform(0, 4, 5)
    p = shares(sw.chi2_dro(rho), loss)
    found = minimize(
        lambda x: -(x @ loss), np.full(5, 0.2), jac=lambda x: -loss, bounds=[(0, 1)] * 5, method="SLSQP",
        constraints=[
            {"type": "eq", "fun": lambda x: x.sum() - 1, "jac": lambda x: np.ones(5)},
            {"type": "ineq", "fun": lambda x: rho - radius(x, np.full(5, 0.2)), "jac": lambda x: -(5 * x - 1)},
        ],
        options={"ftol": 1e-13, "maxiter": 500},
    )  # fmt: skip
    np.testing.assert_allclose(p, found.x, atol=1e-5)
    assert p @ loss == pytest.approx(-found.fun, rel=1e-7)
    assert radius(p, np.full(5, 0.2)) <= rho + 1e-9


@pytest.mark.parametrize("rule", [sw.chi2_dro(0.3), sw.chi2_dro(0.02), sw.cvar(0.55), sw.ir_dro(r=0.5)], ids=repr)
def test_the_weights_are_the_gradient_of_the_worst_case(rule):
    """Danskin: the derivative of max_p Σ p L (− r·KL) by the losses is p itself, so training may hold p constant."""
    loss, step = np.array([0.3, 1.1, 1.9, 2.2, 4.0]), 1e-6

    def value(x: Array) -> float:
        p = shares(rule, x)
        penalty = 0.5 * float((p * np.log(5 * p)).sum()) if repr(rule).startswith("ir_dro") else 0.0
        return float(p @ x) - penalty

    p = shares(rule, loss)
    for k in range(5):
        move = step * (np.arange(5) == k)
        assert (value(loss + move) - value(loss - move)) / (2 * step) == pytest.approx(p[k], abs=1e-6)


def test_chi2_of_a_million_samples():
    loss = torch.exp(torch.linspace(math.log(1e-6), math.log(1e4), 1_000_000, dtype=torch.float64))
    p = sw.weights(sw.chi2_dro(rho=2.0), loss)
    assert float(((p - 1) ** 2).mean()) / 2 == pytest.approx(2.0, rel=1e-6)


def test_chi2_leaves_out_what_lies_below_eta():
    assert (shares(sw.chi2_dro(rho=0.1), [1, 2, 3, 4]) > 0).all()
    assert (shares(sw.chi2_dro(rho=0.4), [1, 2, 3, 4]) > 0).tolist() == [False, True, True, True]
    assert (shares(sw.chi2_dro(rho=1.0), [1, 2, 3, 4]) > 0).tolist() == [False, False, True, True]


# ---- CVaR ----


def test_cvar_by_hand():
    assert shares(sw.cvar(0.25), [1, 2, 3, 4]) == pytest.approx([0, 0, 0, 1])
    assert shares(sw.cvar(0.5), [4, 2, 3, 1]) == pytest.approx([0.5, 0, 0.5, 0])
    assert shares(sw.cvar(0.6), [1, 2, 3, 4]) == pytest.approx([0, 0.4 / 2.4, 1 / 2.4, 1 / 2.4])
    assert shares(sw.cvar(1.0), [1, 2, 3, 4]) == pytest.approx([0.25] * 4)
    assert shares(sw.cvar(0.1), [1, 2, 3, 4]) == pytest.approx([0, 0, 0, 1]), "less than one sample"
    assert shares(sw.cvar(0.5), [1, 2, 2, 4]) == pytest.approx([0, 0.25, 0.25, 0.5]), "ties share the last place"
    assert shares(sw.cvar(0.5), [1, 2, 3], np.array([1.0, 1.0, 2.0])) == pytest.approx([0, 0, 1]), "half of the mass"


@quick
@given(losses, st.floats(0.01, 1.0), st.data())
def test_cvar_is_the_solution_of_the_linear_programme(loss, alpha, data):
    n = len(loss)
    entry = np.array(data.draw(st.one_of(st.just([1.0] * n), st.lists(st.floats(0.1, 10), min_size=n, max_size=n))))
    q = entry / entry.sum()
    p = shares(sw.cvar(alpha), loss, entry)
    caps = q / alpha
    assert (p <= caps * (1 + 1e-5) + 1e-12).all() or (p > 0).sum() == 1 or alpha < q.max()
    best = linprog(-np.array(loss), A_eq=np.ones((1, n)), b_eq=[1], bounds=[(0, cap) for cap in caps])
    assert best.success
    assert (p * loss).sum() == pytest.approx(-best.fun, rel=2e-6)


@pytest.mark.parametrize(("alpha", "n"), [(0.3, 10), (0.7, 10), (0.1, 30), (1 / 3, 9), (0.29, 100), (0.58, 50)])
def test_a_whole_number_of_samples_is_that_number(alpha, n):
    p = shares(sw.cvar(alpha), np.random.default_rng(n).permutation(n) + 0.5)
    assert (p > 0).sum() == round(alpha * n)
    assert len(set(p[p > 0].tolist())) == 1


def test_cvar_of_a_million_samples():
    """The boundary is found by a sum of 10⁶ shares, whose rounding is no weight below 0."""
    loss = np.exp(np.random.default_rng(0).uniform(math.log(1e-6), math.log(1e4), 1_000_000))
    p = sw.weights(sw.cvar(alpha=0.3), loss).numpy() / 1e6
    assert (p > 0).sum() == pytest.approx(300_000, abs=1)
    assert p @ loss == pytest.approx(np.sort(loss)[-300_000:].mean(), rel=1e-6)


@pytest.mark.parametrize(
    ("make", "argument"),
    [
        *[(lambda rho=rho: sw.chi2_dro(rho), "rho") for rho in (0, -1.0, math.inf, math.nan, "1", True)],
        *[(lambda a=a: sw.cvar(a), "alpha") for a in (0, -0.1, 1.1, math.nan, "1", True)],
    ],
)
def test_bad_arguments_are_named(make, argument):
    with pytest.raises(SamplewiseError, match=rf"^{argument}: expected "):
        make()

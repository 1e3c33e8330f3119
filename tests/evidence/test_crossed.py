"""The interval over documents × seeds: its coverage by simulation, its parts against scipy and an obvious ANOVA."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from samplewise.core.errors import SamplewiseError
from samplewise.evidence import crossed, family_p, holm, seeds_needed
from samplewise.evidence.crossed import Components, components, mean_and_variance, mean_squares
from samplewise.evidence.student import t_quantile, t_tail

NOISE = {"seed": (1.0, 0.3, 0.5), "document": (1e-4, 1.0, 0.1), "interaction": (1e-5, 1e-5, 1.0)}
RUNS = 2000


def simulated(S: int, D: int, seed: float, document: float, rest: float, runs: int = RUNS) -> np.ndarray:
    """[runs, S, D] differences whose true mean is 0; the arguments after D are variances."""
    draw = np.random.default_rng([11, S, D])
    x = np.sqrt(rest) * draw.standard_normal((runs, S, D), dtype=np.float32).astype(np.float64)
    x += np.sqrt(seed) * draw.standard_normal((runs, S, 1))
    x += np.sqrt(document) * draw.standard_normal((runs, 1, D))
    return x


def t_statistics(x: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    mean, variance, degrees = mean_and_variance(x)
    return np.abs(mean) / np.sqrt(variance), degrees.astype(int)


@pytest.mark.parametrize("S", [3, 5, 8])
@pytest.mark.parametrize("D", [100, 500])
@pytest.mark.parametrize("noise", NOISE)
@pytest.mark.fast_cover(2)
def test_the_nominal_95_percent_covers(S, D, noise):
    """And so a difference is declared where there is none in at most 6% of simulations."""
    t, degrees = t_statistics(simulated(S, D, *NOISE[noise]))
    limits = np.array([t_quantile(0.975, int(n)) for n in range(1, degrees.max() + 1)])
    covered = (t <= limits[degrees - 1]).mean()
    assert 0.94 <= covered <= 0.99, covered


@pytest.mark.parametrize("noise", NOISE)
@pytest.mark.parametrize("arms", [1, 6])
def test_no_difference_is_declared_among_arms_that_are_alike(noise, arms):
    """Arms against one control, Holm over them: any declared in at most 6% of plans."""
    plans, S, D = 1000, 3, 30
    family = simulated(S, D, *NOISE[noise], runs=plans * arms).reshape(plans, arms, S, D)
    shared = np.sqrt(NOISE[noise][0]) * np.random.default_rng(0).standard_normal((plans, 1, S, 1))
    declared = sum(min(holm(family_p(plan))) < 0.05 for plan in family + shared)  # the control's noise is in each
    assert declared / plans <= 0.06


def test_the_family_floor_is_a_quarter_and_idle_where_seeds_vary_alike():
    x = simulated(4, 20, 1.0, 0.2, 0.5, runs=3)
    assert family_p([x[0]]) == [crossed(x[0]).p]
    assert family_p([x[0], x[0]]) == [crossed(x[0]).p] * 2
    quiet = x[1] - x[1].mean(1, keepdims=True) + 0.8  # no seed effect at all
    assert crossed(quiet).p < 0.01
    assert family_p([quiet, x[0], x[2]])[0] > 10 * crossed(quiet).p


@pytest.mark.parametrize("shape", [(3, 5), (5, 40), (2, 7)])
def test_mean_squares_are_those_of_an_obvious_anova(shape):
    x = np.random.default_rng(1).normal(size=shape)
    S, D = shape
    seed = D * sum((row.mean() - x.mean()) ** 2 for row in x) / (S - 1)
    document = S * sum((column.mean() - x.mean()) ** 2 for column in x.T) / (D - 1)
    whole = ((x - x.mean()) ** 2).sum()
    rest = (whole - seed * (S - 1) - document * (D - 1)) / ((S - 1) * (D - 1))
    assert np.allclose(mean_squares(x), (seed, document, rest))


def test_below_three_seeds_documents_alone_are_covered():
    x = np.random.default_rng(2).normal(0.3, 1, (2, 30))
    found = crossed(x)
    expected = stats.ttest_1samp(x.mean(0), 0)
    assert not found.over_seeds
    assert (found.low, found.high) == pytest.approx(tuple(expected.confidence_interval(0.95)))
    assert found.p == pytest.approx(expected.pvalue, rel=1e-6)
    assert crossed(x[:1]).mean == pytest.approx(x[0].mean())
    assert crossed(np.vstack([x, x[:1]])).over_seeds


def test_seeds_that_differ_alone_give_the_t_test_over_seeds():
    effects = np.array([0.1, 0.5, -0.2, 0.7])
    found = crossed(np.repeat(effects[:, None], 50, 1))
    expected = stats.ttest_1samp(effects, 0)
    assert (found.low, found.high) == pytest.approx(tuple(expected.confidence_interval(0.95)))
    assert found.p == pytest.approx(expected.pvalue, rel=1e-6)


@given(st.integers(1, 200), st.floats(0, 30))
def test_tails_are_scipys(degrees, t):
    assert t_tail(t, degrees) == pytest.approx(2 * stats.t.sf(t, degrees), abs=1e-9)


def test_beyond_2000_degrees_the_quantile_stays_within_a_thousandth():
    assert t_quantile(0.975, 10**6) == pytest.approx(stats.norm.ppf(0.975), rel=1e-3)


@given(st.lists(st.floats(0, 1), min_size=1, max_size=8))
def test_holm_keeps_order_and_never_lowers(p):
    adjusted = holm(p)
    assert all(a >= b for a, b in zip(adjusted, p, strict=True))
    assert sorted(range(len(p)), key=lambda i: (p[i], i)) == sorted(range(len(p)), key=lambda i: (adjusted[i], p[i], i))
    assert adjusted[int(np.argmin(p))] == pytest.approx(min(1.0, len(p) * min(p)))


def test_seeds_needed_reach_the_width_they_promise():
    parts = Components(seed=2e-4, document=2e-4, rest=4e-3)
    seeds = seeds_needed(parts, 200, 0.01)
    assert seeds is not None
    widths = {}
    for S in (seeds - 2, seeds):
        _, variance, degrees = mean_and_variance(simulated(S, 200, parts.seed, parts.document, parts.rest))
        quantiles = [t_quantile(0.975, int(n)) for n in degrees]
        widths[S] = float(np.mean(quantiles * np.sqrt(variance)))
    assert widths[seeds] < 0.0105
    assert widths[seeds - 2] > 0.01


def test_components_are_recovered_on_average():
    found = [components(x) for x in simulated(8, 100, 0.2, 0.5, 1.0, runs=300)]
    assert np.mean([part.seed for part in found]) == pytest.approx(0.2, rel=0.15)
    assert np.mean([part.document for part in found]) == pytest.approx(0.5, rel=0.1)
    assert np.mean([part.rest for part in found]) == pytest.approx(1.0, rel=0.02)


def test_no_variance_at_all():
    same = crossed(np.zeros((3, 4)))
    assert (same.mean, same.low, same.high, same.p, same.effect) == (0.0, 0.0, 0.0, 1.0, 0.0)
    with pytest.raises(SamplewiseError, match="at least 2 documents"):
        crossed(np.zeros((3, 1)))

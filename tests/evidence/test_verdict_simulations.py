"""What the verdicts promise, by simulation: on numbers with the variances of our own results, no model is trained."""

import numpy as np
import plans
import pytest

from samplewise.evidence import family_p, holm
from samplewise.evidence.crossed import mean_and_variance
from samplewise.evidence.differences import margin_of
from samplewise.evidence.primary import Primary, primary_outcome
from samplewise.evidence.student import t_quantile, t_tail

NOISE = {"seed": 0.0025, "document": 0.024, "rest": 0.0205}
"""Standard deviations of a difference in nats/token: the medians over the 97 comparisons in results/."""
RUNS, DOCUMENTS = 8000, 60


def simulated(seeds: int, effect: float = 0.0, runs: int = RUNS) -> np.ndarray:
    """[runs, S, D] differences of an arm and its control whose true mean is `effect`."""
    draw = np.random.default_rng([seeds, runs])
    x = effect + NOISE["rest"] * draw.standard_normal((runs, seeds, DOCUMENTS))
    x += NOISE["seed"] * draw.standard_normal((runs, seeds, 1))
    return x + NOISE["document"] * draw.standard_normal((runs, 1, DOCUMENTS))


def intervals(x: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The ends of the 95% intervals."""
    mean, variance, degrees = mean_and_variance(x)
    half = np.array([t_quantile(0.975, int(n)) for n in degrees]) * np.sqrt(variance)
    return mean - half, mean + half


def outcome(x: np.ndarray) -> dict:
    """What is said of one primary comparison."""
    after = {"arm": {str(s): {"held_out": row} for s, row in enumerate(x)},
             "control": {str(s): {"held_out": 0 * row} for s, row in enumerate(x)}}  # fmt: skip
    primary = Primary("arm", ("control",), "loss", ("held_out",))
    return primary_outcome(primary, plans.documents(DOCUMENTS), {"after": after})


@pytest.mark.parametrize("seeds", [3, 5])
def test_intervals_cover_and_false_alarms_are_rare(seeds):
    x = simulated(seeds, effect=0.01)
    low, high = intervals(x)
    covered = float(((low <= 0.01) & (high >= 0.01)).mean())
    assert 0.95 <= covered <= 0.97, "and so a primary comparison without an effect is declared in at most 5%"
    for k in range(40):
        said = outcome(x[k] - 0.01)
        assert (said["verdict"] != "none") == (not low[k] - 0.01 <= 0 <= high[k] - 0.01)


@pytest.mark.parametrize("seeds", [3, 5])
def test_an_injected_effect_is_found(seeds):
    """Of 2.5 half-widths of the interval: nearly always, and in the right direction."""
    low, high = intervals(simulated(seeds))
    effect = 2.5 * float(np.median(high - low) / 2)
    _, high = intervals(simulated(seeds, effect=-effect))
    assert (high < 0).mean() >= 0.98
    assert outcome(simulated(seeds, effect=-effect, runs=1)[0] - 0.01)["verdict"] == "better"


@pytest.mark.parametrize("seeds", [3, 5])
def test_an_arm_that_is_worse_by_the_margin_is_rarely_said_not_to_be(seeds):
    """In at most 5% at the margin; and one as good as its control is found if the margin is wide enough."""
    low, high = intervals(simulated(seeds))
    margin = 2.5 * float(np.median(high - low) / 2)
    assert (high < margin).mean() >= 0.98
    x = simulated(seeds, effect=margin)
    _, high = intervals(x)
    assert (high < margin).mean() <= 0.05
    for k in range(40):
        found = margin_of(x[k] - (k % 2) * margin, margin)
        assert (found["p_margin"] < 0.05) == (high[k] - (k % 2) * margin < margin)


@pytest.mark.parametrize(("seeds", "arms"), [(3, 3), (3, 8), (5, 3), (5, 8)])
def test_of_a_family_any_is_declared_in_at_most_5_percent(seeds, arms):
    """Arms against one control, whose noise is in each of the differences."""
    count, draw = 1200 // arms, np.random.default_rng(seeds)
    x = simulated(seeds, runs=count * arms).reshape(count, arms, seeds, DOCUMENTS)
    control = NOISE["document"] * draw.standard_normal((count, 1, 1, DOCUMENTS))
    control = control + NOISE["seed"] * draw.standard_normal((count, 1, seeds, 1))
    control = control + NOISE["rest"] * draw.standard_normal((count, 1, seeds, DOCUMENTS))
    alarms = sum(min(holm(family_p(plan))) < 0.05 for plan in (x + control) / np.sqrt(2))
    assert alarms <= 0.05 * count


def test_the_simulations_tails_are_those_of_the_p_values():
    x = simulated(3, runs=20)
    mean, variance, degrees = mean_and_variance(x)
    p = [t_tail(abs(m) / v**0.5, int(n)) for m, v, n in zip(mean, variance, degrees, strict=True)]
    assert p == pytest.approx([outcome(each)["p"] for each in x])

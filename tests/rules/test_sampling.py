"""Fixed limits by hand; sampling in proportion to the loss against successive drawing."""

import itertools
import math
from collections import Counter

import pytest
import torch

import samplewise as sw
from samplewise.core.errors import SamplewiseError
from samplewise.core.samples import as_samples

LOSS = [1.0, 2.0, 3.0, 4.0]


def test_threshold_by_hand():
    assert (sw.weights(sw.threshold(low=2.0), LOSS) > 0).tolist() == [False, True, True, True]
    assert (sw.weights(sw.threshold(high=2.0), LOSS) > 0).tolist() == [True, True, False, False]
    assert (sw.weights(sw.threshold(low=2.0, high=3.0), LOSS) > 0).tolist() == [False, True, True, False]
    assert sw.weights(sw.by("excess", sw.threshold(low=0)), LOSS, reference=[0.5, 2.5, 2.0, 4.5]).tolist() == [
        2,
        0,
        2,
        0,
    ]
    assert sw.threshold(low=1.0).pointwise
    with pytest.raises(SamplewiseError, match=r"at least one sample.*threshold\(low=9\.0\).*Loosen"):
        sw.weights(sw.threshold(low=9.0), LOSS)


def successive(losses: list[float], k: int) -> dict[frozenset[int], float]:
    """The probability of every subset when k samples are drawn one after the other in proportion to their losses."""
    out: Counter[frozenset[int]] = Counter()
    for order in itertools.permutations(range(len(losses)), k):
        left, chance = sum(losses), 1.0
        for i in order:
            chance *= losses[i] / left
            left -= losses[i]
        out[frozenset(order)] += chance
    return out


def test_it_is_successive_drawing_in_proportion_to_the_loss():
    """2,000 steps: every pair of four as often as its probability says, within four standard errors."""
    rule, samples, n = sw.sample_proportional(share=0.5, seed=1), as_samples(LOSS, ids=[5, 70, 3, 11]), 2000
    state, seen = rule.init(), Counter()
    for _ in range(n):
        weights = rule.apply(torch.ones(4), samples, state)
        seen[frozenset(weights.nonzero().flatten().tolist())] += 1
        state = rule.update(samples, torch.ones(4), state)
    expected = successive(LOSS, 2)
    assert sum(expected.values()) == pytest.approx(1)
    assert set(seen) <= set(expected)
    for pair, chance in expected.items():
        assert seen[pair] / n == pytest.approx(chance, abs=4 * (chance * (1 - chance) / n) ** 0.5), pair


def test_weights_on_entry_stay_and_losses_of_nothing_come_last():
    rule = sw.chain(sw.column_weights(), sw.sample_proportional(share=0.5))
    kept = sw.weights(rule, [0.0, 3.0, -1.0, 2.0], weight=[1.0, 2.0, 3.0, 4.0])
    assert kept.tolist() == pytest.approx([0.0, 4 / 3, 0.0, 8 / 3])
    more = sw.weights(sw.sample_proportional(share=0.75), [0.0, 3.0, -1.0, 2.0])
    assert (more[[1, 3]] > 0).all()
    assert (more > 0).sum() == 3


@pytest.mark.parametrize(
    ("make", "argument"),
    [
        (lambda: sw.threshold(), "low, high"), (lambda: sw.threshold(2.0, 1.0), "low, high"),
        (lambda: sw.threshold(low=math.nan), "low"), (lambda: sw.threshold(high=math.inf), "high"),
        (lambda: sw.threshold(high="4"), "high"),  # pyright: ignore
        (lambda: sw.sample_proportional(0.0), "share"), (lambda: sw.sample_proportional(1.1), "share"),
        (lambda: sw.sample_proportional(0.5, seed=True), "seed"),
        *[(lambda w=w: sw.band(0.1, window=w), "window") for w in (0, -1, 2.0, True, "64")],
        (lambda: sw.top_k(0.5, window=0), "window"), (lambda: sw.mid_ranking(0.5, 0, window=0), "window"),
    ],
)  # fmt: skip
def test_bad_arguments_are_named(make, argument):
    with pytest.raises(SamplewiseError, match=rf"^{argument}: expected "):
        make()


def test_a_share_that_draws_none_names_the_least_number():
    with pytest.raises(SamplewiseError, match=r"at least 10 samples.*got 4 samples"):
        sw.weights(sw.sample_proportional(share=0.1), LOSS)

"""Where the loss changes within a window: the place that parts it best, found for many windows at once."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scoring import score, table

from samplewise.corpus.change import SIDE, changes


def by_hand(losses: np.ndarray) -> float:
    n = len(losses)
    best, found = -1.0, np.nan
    for k in range(SIDE, n - SIDE + 1):
        difference = losses[k:].mean() - losses[:k].mean()
        if k * (n - k) / n * difference**2 > best * (1 + 1e-9):
            best, found = k * (n - k) / n * difference**2, difference
    return found


@given(st.lists(st.integers(1, 90), min_size=1, max_size=6), st.integers(0, 2**32 - 1))
def test_it_is_the_difference_at_the_place_that_parts_best(counts, seed):
    draw = np.random.default_rng(seed)
    rows = [draw.gamma(2, 1, count) + (np.arange(count) > count // 3) * draw.normal(0, 3) for count in counts]
    owner = np.repeat(np.arange(len(counts)), counts)
    found = changes(np.concatenate(rows), owner, np.array(counts))
    assert found == pytest.approx(np.array([by_hand(row) for row in rows]), abs=1e-4, nan_ok=True)


def test_a_loss_that_is_not_finite_disturbs_no_other_window():
    values = np.r_[np.ones(40), np.full(40, np.inf), np.ones(20), np.full(20, 3.0)]
    found = changes(values, np.repeat([0, 1, 2], 40), np.array([40, 40, 40]))
    assert found[[0, 2]] == pytest.approx([0, 2])


def test_scores_have_it_where_a_window_is_long_enough(tiny_model, corpus, tmp_path):
    score(tiny_model, corpus, tmp_path / "out", max_length=64)
    found = table(tmp_path / "out").to_pydict()
    long = np.array(found["n_tokens"]) >= 2 * SIDE
    assert long.any()
    assert [change is None for change in found["loss_change"]] == (~long).tolist()
    assert (np.isfinite(np.array(found["loss_change"], float)) == long).all()

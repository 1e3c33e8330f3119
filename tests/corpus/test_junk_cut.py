"""Where the page cuts: the border at which most more junk than clean text goes, and what it says of clean text."""

from dataclasses import replace

import numpy as np
import pytest

from samplewise.corpus.junk import BORDER, best_cut
from samplewise.corpus.junk.habits import NAMES
from samplewise.corpus.junk.measures import TWO_SIDED, measure
from samplewise.corpus.junk.model import GRID, model
from samplewise.corpus.junk.trees import Trees, none

PROSE = (
    "The harbour was quiet in the morning. Two boats lay at the quay, and a man was mending his nets on one of them. "
)


@pytest.fixture(scope="module")
def known():
    """Of clean texts 1 in 100 reaches 0.5, and as many more each twentieth below."""
    tail = 0.01 * np.maximum(11 - np.arange(1, 20), 0.2)
    return replace(model(), tail=np.tile(tail, (5, 1)))


def corpus(draw: np.random.Generator, known, count: int, junk: float) -> np.ndarray:
    """Scores: of clean texts as the tail has it, of junk evenly."""
    of_junk = round(count * junk)
    chance = draw.random(count - of_junk)
    clean = np.array([GRID[known.tail[0] >= value].max(initial=0.0) for value in chance])
    return np.r_[clean, draw.random(of_junk)]


def test_the_more_junk_the_lower_the_border_and_the_fewer_mistakes(known):
    draw = np.random.default_rng(0)
    cuts = [best_cut(scores := corpus(draw, known, 20_000, share), np.zeros(len(scores), int), known)
            for share in (0.01, 0.05, 0.2)]  # fmt: skip
    borders = [cut.border for cut in cuts]
    assert borders == sorted(borders, reverse=True)
    assert borders[0] > borders[-1]
    assert cuts[0].mistaken > cuts[-1].mistaken
    assert [cut.junk for cut in cuts] == pytest.approx([0.01, 0.05, 0.2], abs=0.02)


def test_no_cut_is_expected_to_leave_out_more_than_four_clean_texts_in_a_hundred(known):
    """At 0.1 four texts in ten more go; nine clean ones in a hundred would."""
    scores = np.r_[np.zeros(2000), np.full(4000, 0.6), np.full(4000, 0.12)]
    cut = best_cut(scores, np.zeros(10_000, int), known)
    assert cut.border == 0.55
    assert best_cut(scores, np.zeros(10_000, int), replace(known, tail=known.tail / 3)).border == 0.1


def test_what_goes_is_said_as_it_is(known):
    """Of 20,000 texts: 18,000 clean, of which 360 are expected at 0.5; what reaches it is 1,000."""
    scores = np.r_[np.full(19_000, 0.0), np.full(1000, 0.5)]
    cut = best_cut(scores, np.zeros(20_000, int), known)
    assert cut.border == 0.5
    assert cut.reached == pytest.approx(0.05)
    assert cut.clean == pytest.approx(0.01)
    assert cut.mistaken == pytest.approx((1 - cut.junk) * 0.01 / 0.05)


def test_without_texts_to_judge_the_border_is_the_usual_one(known):
    assert best_cut(np.full(3, np.nan), np.zeros(3, int), known).border == BORDER
    assert best_cut(np.zeros(0), np.zeros(0, int), known).mistaken == 1.0


def test_trees_go_the_way_of_each_node():
    """Tree 1: x0 > 1, nan left, then x1 > 5, nan right. Tree 2: a leaf."""
    trees = Trees(
        feature=np.array([[0, 0, 1, 0, 0], [0] * 5], np.int16),
        border=np.array([[1, 0, 5, 0, 0], [0] * 5], np.float32),
        nan=np.array([[False, False, True, False, False], [False] * 5]),
        after=np.array([[1, 0, 3, 0, 0], [0] * 5], np.int16),
        value=np.array([[0, 10, 0, 20, 30], [0.5, 0, 0, 0, 0]], np.float32),
    )
    rows = np.array([[1.0, 9.0], [np.nan, 9.0], [2.0, 5.0], [2.0, 6.0], [2.0, np.nan]])
    assert trees.sums(rows).tolist() == [10.5, 10.5, 20.5, 30.5, 30.5]
    assert none().sums(rows).tolist() == [0.0] * 5


def test_habits_are_counted_as_they_are():
    texts = ["Aa bb. CcDd ee, 12!\nff gg", "", PROSE * 3]
    found = measure(texts, model()).habits
    place = {name: TWO_SIDED.index(name) for name in (*NAMES, "size")}
    row = {name: found[0, own] for name, own in place.items()}
    assert row["word length"] == pytest.approx(14 / 6)
    assert row["spaces"] == pytest.approx(6 / 25)
    assert row["letters"] == pytest.approx(14 / 19)
    assert row["capitals"] == pytest.approx(3 / 14)
    assert row["inner capitals"] == pytest.approx(1 / 14)
    assert row["doubled letters"] == pytest.approx(7 / 14)
    assert row["stops"] == pytest.approx(2 / 25)
    assert row["commas"] == pytest.approx(1 / 25)
    assert row["longest run"] == 4
    assert row["line length"] == pytest.approx(12.0)
    assert row["lines continued"] == 0.0
    assert np.isnan(found[1, place["word length"]])
    assert found[2, place["known words"]] > 0.95
    assert found[2, place["repeated words"]] > 0.6

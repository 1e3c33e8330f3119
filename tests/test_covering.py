"""What the fast suite runs of a large product: every value, or every pair of values, of its parameters."""

from itertools import combinations, product

import pytest
from covering import covering
from hypothesis import given
from hypothesis import strategies as st

SIZES = st.lists(st.integers(1, 5), min_size=1, max_size=4)


def cases(sizes):
    return [dict(zip("abcd", each, strict=False)) for each in product(*map(range, sizes))]


@pytest.mark.parametrize("strength", [1, 2])
@given(sizes=SIZES)
def test_everything_occurs(strength, sizes):
    every = cases(sizes)
    chosen = covering(every, strength)

    def parts(case):
        return set(combinations(sorted(case.items()), min(strength, len(case))))

    assert set().union(*(parts(every[k]) for k in chosen)) == set().union(*map(parts, every))
    assert len(set(chosen)) == len(chosen)


@given(sizes=SIZES)
def test_no_case_more_than_the_longest_parameter_has_values(sizes):
    assert len(covering(cases(sizes), 1)) == max(sizes)


def test_a_short_parameter_goes_round():
    every = cases([3, 34])
    hosts = [every[k]["a"] for k in covering(every, 1)]
    assert sorted(map(hosts.count, range(3))) == [11, 11, 12]


def test_cases_that_are_left_out_of_the_product_are_no_obstacle():
    every = [case for case in cases([3, 4]) if case != {"a": 0, "b": 0}]
    assert {every[k]["b"] for k in covering(every, 1)} == {0, 1, 2, 3}

"""How far numbers lie apart, and how many there are."""

import math

import pytest

from vidlatent.jobs.measure.spread import Spread


def test_a_spread_is_of_the_finite_numbers():
    assert Spread.of([1.0, 3.0, math.inf]) == Spread(2, 2.0, pytest.approx(math.sqrt(2)), 1.0, 3.0)


def test_one_number_has_no_deviation_and_none_has_no_spread():
    assert Spread.of([5.0]) == Spread(1, 5.0, 0.0, 5.0, 5.0)
    assert Spread.of([math.inf]) is None and Spread.of([]) is None

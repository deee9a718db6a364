"""Tests for numbers that are paths through a trellis."""

from itertools import product

import numpy as np
import pytest

from vidlatent.io.coded.predictor import MOST
from vidlatent.io.coded.trellis import NOISE, STATES, Halves, Whole, advance, choose_numbers


def follow(halves: tuple[int, ...]) -> np.ndarray:
    """The numbers of these halves, at one place."""
    path = Halves(1)
    return np.concatenate([path.follow(np.array([half], np.int32)) for half in halves])


def test_from_every_state_two_ways_lead_to_two_states_and_two_ways_lead_to_every_state():
    there = [advance(s, half) for s in range(STATES) for half in (0, 1)]
    assert sorted(there) == sorted([*range(STATES)] * 2)
    assert all(there[2 * s] != there[2 * s + 1] for s in range(STATES))


@pytest.mark.parametrize("seed", range(5))
def test_no_other_path_is_nearer(seed: int):
    """Of all paths of five numbers from -4 to 5."""
    exact = np.random.default_rng(seed).uniform(-2, 3, 5).astype(np.float32)
    paths = np.array([follow(halves) for halves in product(range(-2, 3), repeat=5)])
    found = choose_numbers(exact.reshape(5, 1, 1, 1)).ravel()
    least = np.square(paths - exact).sum(1).min()
    assert np.square(found - exact).sum() == pytest.approx(least)


def test_noise_is_that_of_a_good_trellis():
    exact = np.random.default_rng(0).uniform(-40, 40, (17, 16, 40, 40)).astype(np.float32)
    error = np.square(choose_numbers(exact) - exact.astype(np.float64)).mean()
    assert error == pytest.approx(NOISE / 12, rel=0.005)
    assert 10 * np.log10(4 / NOISE) > 1.0  # dB that it gains over rounding to every second number


def test_places_have_paths_of_their_own():
    exact = np.random.default_rng(1).normal(0, 5, (3, 4, 50, 50)).astype(np.float32)
    alone = [choose_numbers(exact[..., i : i + 1, j : j + 1]) for i, j in ((0, 0), (49, 49), (41, 7))]
    whole = choose_numbers(exact)
    for (i, j), found in zip(((0, 0), (49, 49), (41, 7)), alone, strict=True):
        assert np.array_equal(found[..., 0, 0], whole[..., i, j])


def test_numbers_come_back_of_their_halves():
    numbers = choose_numbers(np.random.default_rng(2).normal(0, 9, (2, 3, 4, 5)).astype(np.float32))
    writer, reader = Halves(20), Halves(20)
    for plane in numbers.reshape(6, 20).astype(np.int32):
        halves = writer.code(plane)
        writer.follow(halves)
        assert np.array_equal(reader.follow(halves), plane)


def test_numbers_of_no_path_are_refused():
    assert np.array_equal(Whole().code(np.array([1])), [1])
    with pytest.raises(ValueError, match="no path through the trellis"):
        Halves(1).code(np.array([1], np.int32))  # the first number of a place is even


def test_the_farthest_numbers_stay_within_bounds():
    exact = np.full((4, 3, 1, 2), MOST - 2, np.float32)
    exact[..., 1] *= -1
    assert np.abs(choose_numbers(exact)).max() <= MOST

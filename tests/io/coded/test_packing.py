"""Tests for the coder of whole numbers: all comes back, and nothing else is taken for it."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from vidlatent.io.coded import rans
from vidlatent.io.coded.fitting import fit_weights
from vidlatent.io.coded.packing import choose_lanes, pack, unpack
from vidlatent.io.coded.predictor import MOST, Predictor, Taps, choose_taps
from vidlatent.io.coded.trellis import choose_numbers


def smooth(seed: int, shape: tuple[int, ...], deviation: float = 8.0) -> np.ndarray:
    """Numbers that follow the frame before and the channel before, as latents do."""
    rng = np.random.default_rng(seed)
    numbers = rng.normal(0, deviation, shape).cumsum(0) / 2
    numbers[:, 1:] += 0.7 * numbers[:, :-1]
    return np.clip(np.rint(numbers), -MOST, MOST).astype(np.int16)


def fitted(numbers: np.ndarray) -> Predictor:
    taps = choose_taps(numbers.shape)
    return Predictor(taps, fit_weights(taps, [numbers]))


SHAPES = st.tuples(
    st.integers(1, 4), st.sampled_from([1, 2, 3, 16, 17, 40, 128]), st.integers(1, 9), st.integers(1, 9)
)


@settings(deadline=None, max_examples=40)
@given(SHAPES, st.integers(0, 99), st.sampled_from([0.0, 0.3, 8.0, 300.0, 5000.0]), st.booleans())
def test_every_shape_and_spread_comes_back(shape, seed, deviation, trellis):
    numbers = smooth(seed, shape, deviation)
    if trellis:
        numbers = choose_numbers(np.clip(numbers, 2 - MOST, MOST - 2).astype(np.float32))
    predictor = fitted(numbers)
    words = pack(numbers, predictor, trellis)
    assert np.array_equal(unpack(words, shape, predictor, trellis), numbers)


@pytest.mark.parametrize("size", [(1, 513), (37, 41)])
def test_planes_that_are_multiplied_in_pieces_come_back(size):
    numbers = smooth(5, (3, 17, *size))
    predictor = fitted(numbers)
    assert np.array_equal(unpack(pack(numbers, predictor), numbers.shape, predictor), numbers)


@settings(deadline=None, max_examples=15)
@given(SHAPES, st.integers(0, 99))
def test_any_weights_give_back_any_numbers(shape, seed):
    """Sums stay exact at the largest weights and numbers that there are."""
    rng = np.random.default_rng(seed)
    numbers = rng.choice([-MOST, MOST, 0], shape).astype(np.int16)
    taps = choose_taps(shape)
    predictor = Predictor(taps, rng.choice([-128, 127], (shape[1], sum(taps.counts))).astype(np.int8))
    assert np.array_equal(unpack(pack(numbers, predictor), shape, predictor), numbers)


@settings(deadline=None, max_examples=30)
@given(st.integers(0, 999), st.booleans())
def test_flipped_bits_are_refused_or_give_numbers_in_bounds(seed, trellis):
    numbers = smooth(3, (3, 4, 5, 6))
    numbers = choose_numbers(numbers.astype(np.float32)) if trellis else numbers
    predictor, rng = fitted(numbers), np.random.default_rng(seed)
    words = pack(numbers, predictor, trellis)
    words[rng.integers(1, len(words))] ^= np.uint16(1 << rng.integers(16))
    try:
        found = unpack(words, numbers.shape, predictor, trellis)
    except ValueError:
        return
    assert np.abs(found).max() < 2**11 + 2**8  # so that no sum of a predictor is rounded


def test_words_that_are_too_few_or_too_many_are_refused():
    numbers = smooth(1, (2, 3, 8, 8))
    predictor = fitted(numbers)
    words = pack(numbers, predictor)
    for wrong in (words[:-1], words[:1], np.append(words, words[-1:]), np.append(words[:1] * 0, words[1:])):
        with pytest.raises(ValueError, match=r"words|lanes"):
            unpack(wrong, numbers.shape, predictor)


def test_what_was_guessed_well_takes_few_bits():
    rng = np.random.default_rng(0)
    base = rng.normal(0, 40, (1, 16, 24, 24))
    numbers = np.rint(np.repeat(base, 8, 0) + rng.normal(0, 1, (8, 16, 24, 24))).astype(np.int16)
    words = pack(numbers, fitted(numbers))
    assert (
        16 * len(words[choose_lanes(numbers.shape) * 2 :]) / numbers.size < 3.5
    )  # alone each takes 7.4 bits


def test_tables_have_a_slot_for_escapes_and_all_slots_in_order():
    starts = rans.make_starts()
    assert np.all(np.diff(starts) >= 0)
    assert np.all(starts[:, 0] == 0) and np.all(starts[:, -1] == 1 << rans.BITS)
    assert np.all(starts[:, -1] > starts[:, -2])


def test_numbers_near_their_guess_need_not_escape():
    slots = np.diff(rans.make_starts())
    half = rans.NEAR // 2
    assert np.all(slots[:, rans.REACH - half : rans.REACH + half] >= 1)


def test_a_table_is_the_logistic_of_its_scale_and_centre():
    """Whose mean distance is the spread that the table is chosen by."""
    slots = np.diff(rans.make_starts()).reshape(rans.SCALES, rans.EIGHTHS, -1)
    b, off, far = 2 ** ((18 + 4.5) / 3) / 64, -3 / 8, np.arange(-rans.REACH, rans.REACH + 1)
    edges = np.concatenate([far - 0.5, [rans.REACH + 0.5]]) - off
    below = 1 / (1 + np.exp(-edges * 2 * math.log(2) / b))
    wanted = np.diff(below) * ((1 << rans.BITS) - 1 - rans.NEAR)
    wanted[rans.REACH - rans.NEAR // 2 : rans.REACH + rans.NEAR // 2] += 1
    assert np.abs(slots[18, 1, :-1] - wanted).max() <= 1.5


def test_the_predictor_looks_at_no_more_channels_than_there_are():
    assert choose_taps((1, 1, 1, 1)) == Taps(0, 1)
    assert choose_taps((17, 16, 60, 80)) == Taps(15, 16)
    assert choose_taps((1, 128, 2, 2)) == Taps(0, 1)

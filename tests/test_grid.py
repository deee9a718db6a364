"""The grid: how many latents a clip becomes, and what is missing to it."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vidlatent.grid import Grid

GRID = Grid(time=4, space=8)
PAIRS = Grid(time=4, space=8, pairs=True)
ALLEGRO = Grid(time=4, space=8, head=4, least=24, stride=16)
MINIMAX_H3 = Grid(time=4, space=16, run=5, least=22, stride=17)


@pytest.mark.parametrize(("frames", "latents"), [(0, 0), (1, 1), (4, 1), (5, 2), (16, 4), (17, 5), (33, 9)])
def test_latents_of_frames(frames, latents):
    assert GRID.latents(frames) == latents


@given(st.integers(1, 10_000), st.integers(1, 16))
def test_padded_clips_fit_and_lose_nothing(frames, time):
    grid = Grid(time, 8)
    padded = frames + grid.missing_frames(frames)
    assert grid.frames(grid.latents(padded)) == padded
    assert grid.missing_frames(frames) < time


@pytest.mark.parametrize(
    ("frames", "latents", "back"),
    [
        (1, 1, 1),
        (4, 1, 1),
        (5, 2, 8),
        (8, 2, 8),
        (9, 3, 9),
        (13, 4, 16),
        (16, 4, 16),
        (17, 5, 17),
        (25, 7, 25),
    ],
)
def test_latents_in_pairs_are_those_of_cogvideox(frames, latents, back):
    assert PAIRS.latents(frames) == latents
    assert PAIRS.frames(latents) == back
    assert PAIRS.fits(frames) == (frames == back)


@given(st.integers(1, 10_000))
def test_clips_in_pairs_are_padded_to_a_first_frame_and_eights(frames):
    padded = frames + PAIRS.missing_frames(frames)
    assert padded % 8 == 1 and padded - frames < 8
    assert PAIRS.fits(padded)


@pytest.mark.parametrize(
    ("grid", "frames", "latents"),
    [(ALLEGRO, 24, 6), (ALLEGRO, 40, 10), (MINIMAX_H3, 22, 7), (MINIMAX_H3, 39, 12), (MINIMAX_H3, 17, 5)],
)
def test_latents_by_a_rule_of_its_own(grid, frames, latents):
    assert grid.latents(frames) == latents
    assert grid.frames(latents) == frames
    assert grid.fits(frames) == (frames != 17)


@given(st.integers(1, 10_000), st.sampled_from([ALLEGRO, MINIMAX_H3]))
def test_clips_are_padded_to_the_next_that_such_a_rule_allows(frames, grid):
    padded = frames + grid.missing_frames(frames)
    assert grid.fits(padded) and (padded - grid.least) % grid.stride == 0
    assert padded - frames < max(grid.least, grid.stride)


def test_no_latents_are_no_frames():
    assert GRID.frames(0) == PAIRS.frames(0) == PAIRS.latents(0) == PAIRS.missing_frames(0) == 0


@given(st.integers(1, 10_000))
def test_padded_sides_fit(side):
    assert (side + GRID.missing_pixels(side)) % GRID.space == 0
    assert 0 <= GRID.missing_pixels(side) < GRID.space

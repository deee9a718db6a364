"""The grid: how many latents a clip becomes, and what is missing to it."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vidlatent.grid import Grid

GRID = Grid(time=4, space=8)


@pytest.mark.parametrize(("frames", "latents"), [(0, 0), (1, 1), (4, 1), (5, 2), (16, 4), (17, 5), (33, 9)])
def test_latents_of_frames(frames, latents):
    assert GRID.latents(frames) == latents


@given(st.integers(1, 10_000), st.integers(1, 16))
def test_padded_clips_fit_and_lose_nothing(frames, time):
    grid = Grid(time, 8)
    padded = frames + grid.missing_frames(frames)
    assert grid.frames(grid.latents(padded)) == padded
    assert grid.missing_frames(frames) < time


@given(st.integers(1, 10_000))
def test_padded_sides_fit(side):
    assert (side + GRID.missing_pixels(side)) % GRID.space == 0
    assert 0 <= GRID.missing_pixels(side) < GRID.space

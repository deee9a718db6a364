"""Pixels ↔ floats: exact both ways, rounded half up, never truncated."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from vidlatent.engine import pixels
from vidlatent.errors import BadInput
from vidlatent.grid import Grid

GRID = Grid(4, 8)
CPU = torch.device("cpu")


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
def test_every_level_survives_the_round_trip(dtype):
    levels = np.arange(np.iinfo(dtype).max + 1, dtype=dtype)
    frame = np.stack([levels.reshape(16, -1)] * 3, axis=-1)
    video = pixels.to_model([frame], GRID, CPU, torch.float32)
    assert video.min() == -1 and video.max() == 1
    back = pixels.to_frames(video, *frame.shape[:2], dtype)
    assert back.dtype == dtype and np.array_equal(back[0], frame)


def test_halves_round_up_and_beyond_is_clamped():
    video = torch.tensor([-1.5, 2 * 0.5 / 255 - 1, 2 * 254.4 / 255 - 1, 9.0]).view(1, 1, 1, 1, 4)
    frames = pixels.to_frames(video.expand(1, 3, 1, 1, 4), 1, 4)
    assert frames[0, 0, :, 0].tolist() == [0, 1, 254, 255]


@given(st.integers(1, 20), st.integers(1, 20))
def test_padding_repeats_the_edge(height, width):
    frame = np.random.default_rng(height * 31 + width).integers(0, 256, (height, width, 3), dtype=np.uint8)
    video = pixels.to_model([frame, frame], GRID, CPU, torch.float32)
    assert video.shape[-2] % 8 == 0 and video.shape[-1] % 8 == 0
    assert torch.equal(video[..., height - 1 :, :width], video[..., height - 1 : height, :width].expand_as(
        video[..., height - 1 :, :width]))  # fmt: skip
    assert torch.equal(video[..., -1], video[..., width - 1])


def test_nan_never_becomes_a_pixel():
    with pytest.raises(BadInput, match="NaN"):
        pixels.to_frames(torch.full((1, 3, 1, 8, 8), float("nan")), 8, 8)


def test_floats_are_no_frames():
    with pytest.raises(BadInput, match="float32"):
        pixels.to_model([np.zeros((8, 8, 3), np.float32)], GRID, CPU, torch.float32)

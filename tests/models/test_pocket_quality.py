"""What the bundled weights must do to pictures, on the sample clip."""

from itertools import islice

import numpy as np
import pytest
import torch
from helpers.paths import SAMPLE

import vidlatent
from vidlatent.engine.pixels import to_frames
from vidlatent.metrics.psnr import Psnr

FRAMES = 9
LEVEL = 1 / 255


@pytest.fixture(scope="module")
def model():
    return vidlatent.load_model(device="cpu", dtype=torch.float32)


@pytest.fixture(scope="module")
def frames():
    with vidlatent.open_video(SAMPLE) as source:
        return [frame.rgb for frame in islice(source.frames(), FRAMES)]


def reconstructed(model: vidlatent.Model, frames: list[np.ndarray]) -> np.ndarray:
    moments = model.encode_stream(model.fitted(frames))
    latents = (latent for window in moments for latent in window.chunk(2, dim=1)[0].unbind(2))
    height, width = frames[0].shape[:2]
    return np.concatenate([to_frames(video, height, width) for video in model.decode_stream(latents)])


def psnr(frames: list[np.ndarray], result: np.ndarray) -> np.ndarray:
    metric = Psnr()
    metric.update(torch.from_numpy(np.stack(frames)), torch.from_numpy(result))
    return metric.per_frame()


def test_the_first_frame_is_as_good_as_the_rest(model, frames):
    values = psnr(frames, reconstructed(model, frames))
    assert values[0] > values[1:].mean() - 0.5


def test_a_clip_of_one_frame_is_as_good_as_the_first_of_many(model, frames):
    alone = psnr(frames[:1], reconstructed(model, frames[:1]))
    assert alone[0] == pytest.approx(psnr(frames, reconstructed(model, frames))[0], abs=0.01)


def test_a_static_clip_stays_static(model, frames):
    result = reconstructed(model, [frames[0]] * FRAMES) / 255
    assert np.abs(np.diff(result, axis=0)).mean(axis=(1, 2, 3)).max() < 2 * LEVEL  # textures shimmer a little
    assert np.ptp(result.mean(axis=(1, 2, 3))) < LEVEL / 4


@pytest.mark.parametrize("colour", [(0, 0, 0), (255, 255, 255), (16, 16, 20), (200, 30, 40), (20, 180, 60)])
def test_flat_colour_stays_flat_and_that_colour(model, colour):
    flat = np.full((64, 96, 3), colour, np.uint8)
    result = reconstructed(model, [flat] * 5).astype(int)
    assert np.abs(result - flat).mean() < 1
    assert result.std(axis=(1, 2)).max() < 1.5  # neither a grid of blocks nor noise


@pytest.mark.parametrize("colour", [(255, 0, 0), (0, 255, 0), (0, 0, 255), (255, 255, 255)])
def test_ramps_of_pure_colours_have_no_tint_and_no_grid(model, colour):
    level = np.arange(256) / 255
    ramp = np.round(level[:, None] * np.array(colour)).astype(np.uint8)[None].repeat(64, axis=0)
    error = reconstructed(model, [ramp] * 9).astype(int) - ramp
    inside = error[:, 8:-8, 8:-8]
    assert np.abs(inside.mean(axis=(0, 1, 2))).max() < 1
    assert inside.std(axis=1).mean() < 0.75  # down a column, where the source is constant


def test_charts_of_primaries_do_not_run_away(model):
    """Activations that no norm holds grew from block to block on strong colours, to pixels of 298."""
    y, x = np.mgrid[:96, :96] // 12
    corners = np.array([(255, 0, 0), (0, 255, 0), (0, 0, 255)], np.uint8)
    chart = torch.from_numpy(corners[(x + y) % 3]).permute(2, 0, 1) / 127.5 - 1
    video = chart[None, :, None].expand(1, 3, 9, 96, 96).contiguous()
    assert model.decode(model.encode(video).mean).abs().max() < 5

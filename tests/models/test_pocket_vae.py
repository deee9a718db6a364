"""Pocket at the seam: what comes of a clip does not depend on how it is cut, with gradients or without."""

import random

import pytest
import torch
from helpers.random_models import random_model
from helpers.streams import assert_same, chunked, streamed

from vidlatent.models.causal import TimeState
from vidlatent.models.pocket_vae import PocketVAE

FRAMES = 21


@pytest.fixture(params=[True, False], ids=["with gradients", "without"])
def gradients(request):
    with torch.set_grad_enabled(request.param):
        yield request.param


@pytest.fixture(scope="module")
def pocket() -> PocketVAE:
    return random_model("pocket", decoder_blocks=2).network


def clip(channels: int, frames: int, side: int) -> torch.Tensor:
    return torch.rand(2, channels, frames, side, side, generator=torch.Generator().manual_seed(1)) * 2 - 1


@pytest.mark.usefixtures("gradients")
@pytest.mark.parametrize("seed", range(6))
def test_chunks_of_any_length_are_the_whole_clip(pocket, seed):
    """With gradients enabled, which is torch's default, chunks used to begin anew without a word."""
    lengths = random.Random(seed)
    video, latents = clip(3, FRAMES, 16), clip(16, 6, 2)
    for apply, x in ((pocket.encode, video), (pocket.decode, latents)):
        whole = torch.cat(list(apply(x, TimeState())), dim=2)
        chunks = chunked(x.shape[2], lengths.randint(1, 6), lambda: lengths.randint(1, 6))
        assert_same(streamed(apply, x, chunks), whole)


def test_gradients_change_nothing_but_the_last_digits(pocket):
    video = clip(3, FRAMES, 16)
    with torch.no_grad():
        plain = torch.cat(list(pocket.encode(video, TimeState())), dim=2)
    with torch.enable_grad():
        learning = torch.cat(list(pocket.encode(video, TimeState())), dim=2)
    assert_same(plain, learning)


def test_gradients_reach_back_into_chunks_that_came_before(pocket):
    """The state is a part of the clip's own past, so chunks teach what the whole teaches."""
    video = clip(3, 9, 16).requires_grad_()
    chunks = [(0, 5), (5, 9)]
    of_whole = torch.autograd.grad(torch.cat(list(pocket.encode(video, TimeState())), dim=2).sum(), video)
    of_chunks = torch.autograd.grad(streamed(pocket.encode, video, chunks).sum(), video)
    assert_same(of_chunks[0], of_whole[0])

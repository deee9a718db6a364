"""Pocket at the seam: what comes of a clip does not depend on how it is cut, with gradients or without."""

import random

import pytest
import torch
from helpers.random_models import random_model
from helpers.streams import assert_same, chunked, streamed

from vidlatent.engine.footprint import Network, footprint
from vidlatent.models import pocket_vae
from vidlatent.models.causal import TimeState
from vidlatent.models.pocket_vae import PocketVAE

FRAMES = 21


@pytest.fixture(params=[True, False], ids=["with gradients", "without"])
def gradients(request):
    with torch.set_grad_enabled(request.param):
        yield request.param


@pytest.fixture(scope="module", params=[False, True], ids=["back", "ahead"])
def pocket(request) -> PocketVAE:
    return random_model("pocket", decoder_blocks=2, looks_ahead=request.param).network


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


@pytest.mark.usefixtures("gradients")
def test_looking_ahead_ends_with_the_group():
    """Frames 1 to 4 are a group: what comes with the next latent must not change them."""
    network, latents = random_model("pocket", looks_ahead=True).network, clip(16, 3, 2)
    shorter, longer = (torch.cat(list(network.decode(latents[:, :, :n], TimeState())), dim=2) for n in (2, 3))
    assert_same(longer[:, :, :5], shorter)


@pytest.mark.parametrize("ahead", [False, True])
def test_a_frame_depends_on_the_next_of_its_group_where_blocks_look_ahead(ahead):
    network = random_model("pocket", looks_ahead=ahead).network.decoder
    frames = clip(8, 5, 2).requires_grad_()
    shown = network.near_pixels(frames, TimeState())
    seen = torch.autograd.grad(shown[:, :, 2].sum(), frames)[0].abs().sum(dim=(0, 1, 3, 4)) > 0
    assert seen.tolist() == [True, True, True, ahead, ahead]


@pytest.mark.parametrize("row", [1, 3], ids=["bands of a row", "the last band is lower"])
def test_bands_of_rows_give_what_whole_frames_give(pocket, monkeypatch, row):
    """Both ways, also where a clip comes in chunks."""
    video, latents = clip(3, 9, 32), clip(16, 3, 4)
    with torch.inference_mode():
        for apply, x in ((pocket.encode, video), (pocket.decode, latents)):
            undivided = torch.cat(list(apply(x, TimeState())), dim=2)
            row_bytes = 4 * 4 * pocket.encoder.stem.out_channels * len(x) * x.element_size()
            with monkeypatch.context() as small:
                small.setattr(pocket_vae, "ENCODER_BAND_BYTES", row * row_bytes)
                small.setattr(pocket_vae, "DECODER_BAND_BYTES", row * row_bytes)
                assert_same(streamed(apply, x, [(0, 1), (1, 2), (2, x.shape[2])]), undivided)


@pytest.mark.parametrize("encode", [True, False], ids=["encode", "decode"])
def test_bands_of_a_large_frame_take_less_memory(monkeypatch, encode):
    model, calls = random_model("pocket", stem=64), ((5, True),) if encode else ((1, True),)
    network = Network.of(model, encode)
    size = (1080, 1920) if encode else (135, 240)
    in_bands = footprint(network, calls, *size)
    for name in ("ENCODER_BAND_BYTES", "DECODER_BAND_BYTES"):
        monkeypatch.setattr(pocket_vae, name, 1 << 40)
    footprint.cache_clear()
    undivided = footprint(network, calls, *size)
    footprint.cache_clear()
    assert in_bands.work < undivided.work and in_bands.state < 1.05 * undivided.state

"""Streaming: exact models give the whole clip's result for any chunks; plans are followed."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

import vidlatent
from vidlatent.engine.model import Model
from vidlatent.engine.runtime import Runtime
from vidlatent.models.pocket_vae import PocketVAE, spec_of

# Convolutions sum in the same order whatever the number of frames; what is left is the blocking of
# the last rows in the CPU kernels: one unit in the last place of values around 1.
STREAM_TOLERANCE = 1e-6


@pytest.fixture(scope="module")
def pocket() -> Model:
    """A narrow Pocket with random weights."""
    torch.manual_seed(0)
    network = PocketVAE(spec_of({"stem": 4, "width": 8, "encoder_blocks": 2, "decoder_blocks": 2}))
    return Model(network.eval(), Runtime.choose("cpu"))


def clip(frames: int, height: int = 8, width: int = 16) -> torch.Tensor:
    generator = torch.Generator().manual_seed(frames)
    return torch.rand(1, 3, frames, height, width, generator=generator) * 2 - 1


@pytest.mark.parametrize("frames", range(1, 121))
def test_pocket_streams_exactly_at_every_length(pocket, frames):
    video = clip(frames)
    whole = pocket.encode(video, pocket.plan(window=0))
    window = 5 + 4 * (frames % 7)
    streamed = pocket.encode(video, pocket.plan(window=window))
    assert torch.allclose(whole.mean, streamed.mean, rtol=0, atol=STREAM_TOLERANCE)
    latents = whole.mean
    undivided = pocket.decode(latents, pocket.plan(latent_window=0))
    assert undivided.shape[2] == frames + pocket.spec.grid.missing_frames(frames)
    pieces = pocket.decode(latents, pocket.plan(latent_window=2 + frames % 5))
    assert torch.allclose(undivided, pieces, rtol=0, atol=STREAM_TOLERANCE)


@settings(max_examples=25, deadline=None)
@given(frames=st.integers(1, 80), hop=st.integers(1, 10), latent_window=st.integers(2, 12))
def test_toy_returns_what_went_in_bit_for_bit(frames, hop, latent_window):
    toy = vidlatent.load_model("toy")
    plan = toy.plan(window=1 + 4 * hop, latent_window=latent_window)
    video = clip(frames)
    back = toy.decode(toy.encode(video, plan).mode(), plan)
    assert torch.equal(back[:, :, :frames], video)


def test_clips_off_the_grid_are_padded_not_cut():
    toy = vidlatent.load_model("toy")
    video = clip(6, 13, 21)
    back = toy.decode(toy.encode(video).mode())
    assert back.shape == (1, 3, 9, 16, 24)
    assert torch.equal(back[:, :, :6, :13, :21], video)
    assert torch.equal(back[:, :, 6], back[:, :, 5])  # the last frame, repeated
    assert torch.equal(back[..., 13, :], back[..., 12, :])  # and the bottom row


def test_batches_go_through_together():
    toy = vidlatent.load_model("toy")
    video = torch.cat([clip(5), clip(5).flip(-1)])
    assert torch.equal(toy.decode(toy.encode(video).mode()), video)


def test_two_clips_may_interleave(pocket):
    """State belongs to the clip: a model used for two at once mixes nothing up."""
    clips = [clip(33), clip(33).flip(-1)]
    alone = [pocket.encode(c).mean for c in clips]
    streams = [pocket.encode_stream(c.unbind(2)) for c in clips]
    parts = list(zip(*streams, strict=True))
    for n, expected in enumerate(alone):
        together = torch.cat([part[n] for part in parts], dim=2)[:, :16]
        assert torch.equal(together, expected)


def test_samples_do_not_depend_on_windows(pocket):
    video = clip(29)
    whole = pocket.encode(video, pocket.plan(window=0)).sample(seed=3)
    count, parts = 0, []
    for moments in pocket.encode_stream(video.unbind(2), pocket.plan(window=5)):
        parts.append(vidlatent.Posterior.of(moments).sample(seed=3, start=count))
        count += moments.shape[2]
    assert torch.allclose(torch.cat(parts, dim=2), whole, rtol=0, atol=STREAM_TOLERANCE)
    assert not torch.allclose(pocket.encode(video).sample(seed=4), whole, atol=0.01)


@pytest.mark.parametrize("shape", [(3, 5, 16, 16), (1, 4, 5, 16, 16), (1, 3, 0, 16, 16)])
def test_what_is_no_clip_is_refused(pocket, shape):
    with pytest.raises(vidlatent.VidlatentError, match="expected floats"):
        pocket.encode(torch.zeros(shape))


def test_nan_latents_are_refused(pocket):
    with pytest.raises(vidlatent.VidlatentError, match="NaN"):
        pocket.decode(torch.full((1, 16, 1, 2, 2), float("nan")))


def test_the_allocator_is_told_the_size_of_pictures_where_they_enter(pocket, moving_clip, monkeypatch):
    """So no job has to remember it: `cache` and `compat` once did not."""
    told = []
    monkeypatch.setattr("vidlatent.engine.model.suit_pictures", told.append)
    moments = list(pocket.encode_stream(moving_clip(5, height=32, width=48)))
    assert told == [32 * 48]
    latents = torch.cat(moments, dim=2).chunk(2, dim=1)[0]
    list(pocket.decode_stream(latents.unbind(2)))
    assert told == [32 * 48, 32 * 48]

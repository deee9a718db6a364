"""Ways to convolve in less memory: the same numbers, whatever surrounds a clip and however it is cut."""

from dataclasses import replace
from functools import partial

import pytest
import torch
from helpers.random_models import random_model

from vidlatent.engine.footprint import Network, footprint
from vidlatent.models import bands, streaming
from vidlatent.models.causal import TimeState, zeros
from vidlatent.models.convolution import Around, CausalConv3d
from vidlatent.models.narrowing import narrows
from vidlatent.models.norms import GroupNorm, RmsNorm
from vidlatent.models.streaming import normalise_and_convolve

AROUND = {
    "copies": Around(),
    "zeros": Around(lead=zeros),
    "edge": Around(edge=True),
    "mirror": Around(mirror=True),
}


@pytest.fixture(autouse=True)
def weights_and_clips_are_the_same_each_time():
    torch.manual_seed(0)
    with torch.inference_mode():
        yield


def a_clip(frames: int = 4) -> torch.Tensor:
    return torch.randn(2, frames, 5, 7, 8).movedim(-1, 1)


def convolved(norm, conv, clip, over: bool) -> torch.Tensor:
    """Frame by frame, as clips that go on are."""
    state, done = TimeState(more=True), []
    for frame in clip.split(1, dim=2):
        done.append(normalise_and_convolve(norm, conv, frame.clone(), state, over=over))
    return torch.cat(done, dim=2)


@pytest.mark.parametrize("band_bytes", [1, 5000, 1 << 20])
@pytest.mark.parametrize("around", AROUND.values(), ids=AROUND)
@pytest.mark.parametrize("norm", [RmsNorm, partial(GroupNorm, groups=2)], ids=["rms", "group"])
def test_bands_give_what_whole_frames_give(monkeypatch, norm, around, band_bytes):
    conv, norm, clip = CausalConv3d(8, 8, around=around), norm(8), a_clip()
    undivided = convolved(norm, conv, clip, over=False)
    monkeypatch.setattr(streaming, "PART_BYTES", 1)
    monkeypatch.setattr(bands, "BAND_BYTES", band_bytes)
    assert bands.suits_bands(conv, clip[:, :, :1], 1, TimeState())
    for over in (False, True):
        torch.testing.assert_close(convolved(norm, conv, clip, over), undivided, rtol=0, atol=2e-6)


def test_bands_of_a_kernel_that_sees_one_position_of_each_frame(monkeypatch):
    conv, norm, clip = CausalConv3d(8, 8, (3, 1, 1), pad=0), RmsNorm(8), a_clip()
    undivided = convolved(norm, conv, clip, over=False)
    monkeypatch.setattr(streaming, "PART_BYTES", 1)
    monkeypatch.setattr(bands, "BAND_BYTES", 1)
    torch.testing.assert_close(convolved(norm, conv, clip, True), undivided, rtol=0, atol=2e-6)


def test_with_over_bands_take_no_second_frame(monkeypatch):
    """So the peak beyond state is a band or two: the result stands where the frame was."""
    monkeypatch.setattr(streaming, "PART_BYTES", 1)
    monkeypatch.setattr(bands, "BAND_BYTES", 1)
    frame = a_clip(1)
    done = normalise_and_convolve(RmsNorm(8), CausalConv3d(8, 8), frame, TimeState(), over=True)
    assert done.data_ptr() == frame.data_ptr()


def test_what_a_gpu_takes_is_measured_without_bands(monkeypatch):
    monkeypatch.setattr(streaming, "PART_BYTES", 1)
    monkeypatch.setattr(bands, "BAND_BYTES", 1)
    here = Network.of(random_model("wan"), encode=False)
    found = [footprint.__wrapped__(each, ((1, True),), 8, 8) for each in (here, replace(here, cpu=False))]
    assert found[0].work < found[1].work and found[0].state == found[1].state


@pytest.mark.parametrize("lengths", [(1, 1, 1, 1), (4,), (1, 0, 3), (2, 2)])
@pytest.mark.parametrize("around", AROUND.values(), ids=AROUND)
def test_sums_of_planes_are_the_convolution(around, lengths):
    conv, norm, clip = CausalConv3d(8, 2, around=around), RmsNorm(8), a_clip()
    assert narrows(conv, clip)
    room, place = conv.room(clip)
    norm.silu_into(clip, place)
    conv.surround(room)
    around.lead(room, conv.front)
    whole = torch.nn.functional.conv3d(room, conv.conv.weight, conv.conv.bias, padding=conv.conv.padding)
    state = TimeState(more=True)
    parts = [normalise_and_convolve(norm, conv, part, state) for part in clip.split(lengths, dim=2)]
    torch.testing.assert_close(torch.cat(parts, dim=2), whole, rtol=0, atol=2e-6)
    assert state.nbytes == 2 * 3 * 2 * clip[:, :1, :1].nbytes  # two frames of six channels, not of eight


def test_sums_are_not_rounded_to_sixteen_bits():
    assert not narrows(CausalConv3d(8, 2), a_clip().to(torch.bfloat16))
    assert not narrows(CausalConv3d(8, 3), a_clip())

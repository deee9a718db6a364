"""What a GPU is spared, tried on a CPU that is taken for one: biases left to readers, channels of zeros."""

import pytest
import torch

from vidlatent.models import convolution, kl, layers, passes, streaming
from vidlatent.models.causal import TimeState
from vidlatent.models.convolution import CausalConv3d, FrameConv2d
from vidlatent.models.norms import GroupNorm, RmsNorm

ROUNDING = {"rtol": 1e-5, "atol": 1e-5}
BORDER = kl.Border(before=2, low=1, high=1)
BLOCKS = {
    "whole clips": lambda inputs, outputs: layers.ResBlock(CausalConv3d, inputs, outputs),
    "frames": lambda inputs, outputs: layers.ResBlock(FrameConv2d, inputs, outputs),
    "sd": lambda inputs, outputs: kl.ResBlock(inputs, outputs, SD),
}
SD = kl.Parts(
    conv=lambda inputs, outputs: kl.VideoConv(inputs, outputs, BORDER),
    conv2=lambda inputs, outputs: kl.FrameConv(inputs, outputs),
    shortcut=lambda inputs, outputs: kl.FrameConv(inputs, outputs, 1),
    sampler=None,
    attention=None,
    groups=32,
    eps=1e-6,
)


@pytest.fixture(autouse=True)
def quiet():
    torch.manual_seed(0)
    with torch.inference_mode():
        yield


def clip(channels, frames=3):
    return torch.randn(1, channels, frames, 5, 6).contiguous(memory_format=torch.channels_last_3d)


def leave_biases(monkeypatch):
    asked = []
    monkeypatch.setattr(convolution, "leaves_bias", lambda x: asked.append(x) or True)
    return asked


@pytest.mark.parametrize("widths", [(32, 32), (32, 64)])
@pytest.mark.parametrize("build", BLOCKS.values(), ids=BLOCKS)
def test_a_block_adds_the_biases_that_its_convolutions_left(monkeypatch, build, widths):
    block, x = build(*widths), clip(widths[0])
    wanted = block(x.clone())
    assert leave_biases(monkeypatch) == []
    torch.testing.assert_close(block(x.clone()), wanted, **ROUNDING)


@pytest.mark.parametrize("widths", [(32, 32), (32, 64)])
@pytest.mark.parametrize("norm", [GroupNorm, RmsNorm, lambda c: GroupNorm(c, per_frame=True)])
def test_a_block_that_streams_does_too(monkeypatch, norm, widths):
    block = streaming.ResBlock(CausalConv3d, *widths, norm)
    for parameter in block.parameters():
        parameter += 0.1 * torch.randn_like(parameter)

    def streamed():
        state, parts = TimeState(more=True), []
        for part in torch.arange(3.0).view(1, 1, 3, 1, 1).mul(clip(widths[0]) * 0 + 1).split(1, dim=2):
            parts.append(block(part.contiguous(memory_format=torch.channels_last_3d), state))
        return torch.cat(parts, dim=2)

    wanted, asked = streamed(), leave_biases(monkeypatch)
    torch.testing.assert_close(streamed(), wanted, **ROUNDING)
    assert asked, "nobody looked whether a bias is left"


def test_a_bias_that_is_left_is_not_in_the_result(monkeypatch):
    conv, x = CausalConv3d(4, 4), clip(4)
    with_bias = conv(x)
    conv.owes = True
    torch.testing.assert_close(conv(x), with_bias)
    leave_biases(monkeypatch)
    bias = convolution.owed(conv, x)
    torch.testing.assert_close(passes.add(conv(x), torch.zeros_like(x), bias), with_bias)
    assert convolution.due(conv, x) is None


@pytest.mark.parametrize(
    ("channels", "dtype", "on_gpu", "fed"),
    [(96, torch.bfloat16, True, 128), (96, torch.bfloat16, False, 96), (96, torch.float32, True, 96),
     (128, torch.bfloat16, True, 128), (48, torch.float16, True, 48), (160, torch.float16, True, 192)],
)  # fmt: skip
def test_how_many_channels_a_convolution_is_fed(channels, dtype, on_gpu, fed):
    assert passes.fed_channels(torch.zeros(1, channels, 1, 1, 1, dtype=dtype), on_gpu) == fed


@pytest.mark.parametrize("mirror", [False, True])
def test_channels_of_zeros_change_nothing(monkeypatch, mirror):
    conv = CausalConv3d(5, 4, around=convolution.Around(mirror=mirror))
    x = clip(5, frames=6)

    def streamed():
        state, parts = TimeState(more=True), []
        for part in x.split((1, 3, 2), dim=2):
            parts.append(streaming.into(conv)(part, state))
        return torch.cat(parts, dim=2)

    wanted = streamed()
    monkeypatch.setattr(streaming, "fed_channels", lambda x, on_gpu: 8)
    torch.testing.assert_close(streamed(), wanted, **ROUNDING)

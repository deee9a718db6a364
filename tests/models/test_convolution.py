"""Convolutions by each way, against what torch makes of the same."""

import pytest
import torch
import torch.nn.functional as F

from vidlatent.models import arithmetic, convolution
from vidlatent.models.convolution import convolve_clip, convolve_frames

product = convolution._as_product
BF16_STEP = 2**-7  # sums in another order may round to the neighbour


@pytest.mark.parametrize(("part_bytes", "widest"), [(1 << 25, 5), (1, 5), (1, 4)])
@pytest.mark.parametrize("stride", [(1, 1, 1), (1, 2, 2), (2, 2, 2)])
@pytest.mark.parametrize("depth", [2, 3])
def test_wide_clips_are_convolved_as_others(monkeypatch, depth, stride, part_bytes, widest):
    monkeypatch.setattr(convolution, "_WIDE", 4)
    monkeypatch.setattr(convolution, "_WIDEST", widest)
    monkeypatch.setattr(convolution, "_MANY", 1)
    monkeypatch.setattr(convolution, "_PART_BYTES", part_bytes)
    torch.manual_seed(0)
    x = torch.randn(1, 4, 7, 6, 8).contiguous(memory_format=torch.channels_last_3d)
    weight, bias = torch.randn(5, 4, depth, 3, 3), torch.randn(5)
    got = convolve_clip(x, weight, bias, stride, (0, 1, 1))
    torch.testing.assert_close(got, F.conv3d(x, weight, bias, stride, (0, 1, 1)), rtol=1e-4, atol=1e-5)
    assert got.is_contiguous(memory_format=torch.channels_last_3d)


@pytest.mark.parametrize("stride", [(1, 1, 1), (1, 2, 2), (2, 2, 2)])
@pytest.mark.parametrize("batch", [1, 2])
@pytest.mark.parametrize("biased", [True, False])
@pytest.mark.parametrize("layout", [torch.channels_last_3d, torch.contiguous_format])
def test_a_product_of_matrices_is_the_convolution_of_a_few_positions(
    monkeypatch, batch, stride, biased, layout
):
    asked = []
    monkeypatch.setattr(convolution, "_as_product", lambda *given: asked.append(1) or product(*given))
    torch.manual_seed(0)
    x = torch.randn(batch, 6, 4, 3, 5).contiguous(memory_format=torch.channels_last_3d)
    weight, bias = torch.randn(128, 6, 3, 3, 3), torch.randn(128) if biased else None
    weight = weight.contiguous(memory_format=layout)
    got = convolve_clip(x, weight, bias, stride, (0, 1, 1))
    torch.testing.assert_close(got, F.conv3d(x, weight, bias, stride, (0, 1, 1)), rtol=1e-4, atol=1e-5)
    assert got.is_contiguous(memory_format=torch.channels_last_3d) and asked


@pytest.mark.parametrize("part_bytes", [1 << 25, 1])
@pytest.mark.parametrize(
    ("kernel", "stride"), [((3, 3, 3), (1, 1, 1)), ((3, 3, 3), (2, 2, 2)), ((1, 3, 3), (1, 1, 1))]
)
def test_halves_without_a_unit_are_convolved_in_float32_and_rounded_once(
    monkeypatch, kernel, stride, part_bytes
):
    monkeypatch.setattr(arithmetic, "has_unit_for", lambda _: False)
    monkeypatch.setattr(convolution, "_PART_BYTES", part_bytes)
    torch.manual_seed(0)
    x = torch.randn(1, 4, 7, 6, 8).bfloat16().contiguous(memory_format=torch.channels_last_3d)
    weight, bias = torch.randn(5, 4, *kernel).bfloat16(), torch.randn(5).bfloat16()
    got = convolve_clip(x, weight, bias, stride, (0, 1, 1))
    wanted = F.conv3d(x.float(), weight.float(), bias.float(), stride, (0, 1, 1)).bfloat16()
    torch.testing.assert_close(got, wanted, rtol=BF16_STEP, atol=1e-5)


@pytest.mark.parametrize("part_bytes", [1 << 25, 1])
@pytest.mark.parametrize("side", [1, 3])
def test_frames_in_halves_without_a_unit_too(monkeypatch, side, part_bytes):
    monkeypatch.setattr(arithmetic, "has_unit_for", lambda _: False)
    monkeypatch.setattr(convolution, "_PART_BYTES", part_bytes)
    torch.manual_seed(0)
    x = torch.randn(3, 4, 6, 8).bfloat16().contiguous(memory_format=torch.channels_last)
    weight, bias = torch.randn(5, 4, side, side).bfloat16(), torch.randn(5).bfloat16()
    got = convolve_frames(x, weight, bias, padding=side // 2)
    wanted = F.conv2d(x.float(), weight.float(), bias.float(), padding=side // 2).bfloat16()
    torch.testing.assert_close(got, wanted, rtol=BF16_STEP, atol=1e-5)
    assert got.is_contiguous(memory_format=torch.channels_last)


def test_a_clip_that_is_only_measured_goes_the_way_of_one_on_a_cpu(monkeypatch):
    asked = []
    monkeypatch.setattr(convolution, "_as_product", lambda *given: asked.append(1) or product(*given))
    x = torch.empty(1, 6, 4, 3, 5, device="meta").contiguous(memory_format=torch.channels_last_3d)
    got = convolve_clip(x, torch.empty(128, 6, 3, 3, 3, device="meta"), None, padding=(0, 1, 1))
    assert got.shape == (1, 128, 2, 3, 5) and asked

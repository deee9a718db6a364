"""Convolutions by each way, against what torch makes of the same."""

import pytest
import torch
import torch.nn.functional as F

from vidlatent.models import convolution
from vidlatent.models.convolution import convolve_clip

product = convolution._as_product


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

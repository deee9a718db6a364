"""Convolutions behind nearest ×2, done small: the same numbers as enlarging first."""

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st

from vidlatent.models.subpixel import enlarge_causally, enlarge_frames, enlarge_pairs

ROUNDING = 5e-6  # sums of up to 81 of the same products in another order, of values up to 4
sizes = st.integers(1, 7)


def channels_last(x: torch.Tensor) -> torch.Tensor:
    return x.contiguous(memory_format=torch.channels_last_3d)


def surrounded(x: torch.Tensor, edge: bool) -> torch.Tensor:
    """One pixel more on each side: copies of the outermost, or zeros."""
    return F.pad(x, (1, 1, 1, 1, 0, 0), mode="replicate") if edge else F.pad(x, (1, 1, 1, 1))


@settings(max_examples=30, deadline=None)
@given(frames=st.integers(1, 3), height=sizes, width=sizes, edge=st.booleans())
def test_frames_enlarged_small_equal_frames_enlarged_first(frames, height, width, edge):
    torch.manual_seed(0)
    x = channels_last(torch.randn(2, 3, frames, height, width))
    weight, bias = torch.randn(4, 3, 3, 3) / 5, torch.randn(4)
    wanted = F.conv3d(surrounded(F.interpolate(x, scale_factor=(1, 2, 2)), edge), weight[:, :, None], bias)
    got = enlarge_frames(surrounded(x, edge), weight, bias, pad=0)
    assert torch.allclose(got, wanted, rtol=0, atol=ROUNDING)
    if not edge:
        assert torch.allclose(enlarge_frames(x, weight, bias), wanted, rtol=0, atol=ROUNDING)


@settings(max_examples=20, deadline=None)
@given(frames=st.integers(1, 3), height=sizes, width=sizes, edge=st.booleans())
def test_frames_enlarged_small_may_be_convolved_in_time_too(frames, height, width, edge):
    torch.manual_seed(0)
    x = channels_last(torch.randn(1, 3, 2 + frames, height, width))
    weight, bias = torch.randn(4, 3, 3, 3, 3) / 9, torch.randn(4)
    wanted = F.conv3d(surrounded(F.interpolate(x, scale_factor=(1, 2, 2)), edge), weight, bias)
    got = enlarge_causally(surrounded(x, edge), weight, bias, pad=0)
    assert torch.allclose(got, wanted, rtol=0, atol=ROUNDING)


@settings(max_examples=30, deadline=None)
@given(pairs=st.integers(1, 4), height=sizes, width=sizes, edge=st.booleans())
def test_pairs_enlarged_small_equal_pairs_enlarged_first(pairs, height, width, edge):
    torch.manual_seed(0)
    x = channels_last(torch.randn(1, 3, 1 + pairs, height, width))
    weight, bias = torch.randn(4, 3, 3, 3, 3) / 9, torch.randn(4)
    large = F.interpolate(x, scale_factor=(2, 2, 2))  # the two frames before the pairs stand in front
    wanted = F.conv3d(surrounded(large, edge), weight, bias)
    got = enlarge_pairs(surrounded(x, edge), weight, bias, pad=0)
    assert torch.allclose(got, wanted, rtol=0, atol=ROUNDING)
    room = torch.zeros(1, 4, 1 + 2 * pairs, 2 * height, 2 * width)
    enlarge_pairs(surrounded(x, edge), weight, bias, pad=0, out=room[:, :, 1:])
    assert torch.equal(room[:, :, 1:], got) and not room[:, :, 0].any()


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_precision_stays_near_what_it_was(dtype):
    torch.manual_seed(0)
    x, weight = torch.randn(1, 8, 2, 6, 6), torch.randn(4, 8, 3, 3) / 8
    exact = enlarge_frames(x, weight, None)
    rough = enlarge_frames(channels_last(x.to(dtype)), weight.to(dtype), None)
    assert rough.dtype == dtype
    assert (rough.float() - exact).norm() / exact.norm() < 0.01

import math

import pytest
import torch

from vidlatent.errors import BadInput
from vidlatent.metrics.base import Series, check_pair

FRAMES = torch.zeros((2, 4, 6, 3), dtype=torch.uint8)


def test_a_value_that_is_no_number_names_its_frame():
    series = Series("ssim")
    series.extend([0.5, 0.6])
    with pytest.raises(BadInput, match="ssim of frame 3 is not a number"):
        series.extend([0.7, math.nan])


def test_the_frame_is_counted_from_where_the_series_begins():
    series = Series("flicker", first=1)
    with pytest.raises(BadInput, match="flicker of frame 1 is not"):
        series.extend(torch.tensor([math.nan]))


def test_infinite_values_are_kept():
    series = Series("psnr")
    series.extend([math.inf])
    assert series.array()[0] == math.inf


def test_frames_of_two_sizes_are_refused():
    with pytest.raises(BadInput, match=r"reference 2 × 6×4, distorted 1 × 6×4"):
        check_pair(FRAMES, FRAMES[:1])


@pytest.mark.parametrize("wrong", [FRAMES.float(), FRAMES[0], FRAMES.permute(0, 3, 1, 2)])
def test_anything_but_frames_is_refused(wrong):
    with pytest.raises(BadInput, match="distorted: metrics compare uint8 or uint16 frames"):
        check_pair(FRAMES, wrong)


def test_frames_of_two_depths_are_refused():
    with pytest.raises(BadInput, match=r"reference torch\.uint8, distorted torch\.uint16"):
        check_pair(FRAMES, FRAMES.to(torch.uint16))

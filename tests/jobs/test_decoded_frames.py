"""Frames of decoded windows, in the order in which the device and the host have them."""

import numpy as np
import pytest
import torch

from vidlatent.engine import pixels
from vidlatent.errors import BadInput
from vidlatent.jobs.decoded_frames import round_frames

SPAN, SIZE = (1, 8), (6, 7)


def windows(asked: list[int], broken: int | None = None):
    """Three windows of three frames; `asked` says which were made so far."""
    for n in range(3):
        asked.append(n)
        window = torch.rand(1, 3, 3, 8, 8, generator=torch.Generator().manual_seed(n)) * 2 - 1
        if n == broken:
            window[0, 0, 1, 0, 0] = torch.nan
        yield window


def test_a_device_that_works_apart_has_the_next_window_before_the_host_waits_for_this_one(monkeypatch):
    here = list(round_frames(windows([]), SPAN, SIZE, np.uint8))
    monkeypatch.setattr(pixels, "works_apart", lambda device: True)
    asked: list[int] = []
    found = [(len(asked), frame) for frame in round_frames(windows(asked), SPAN, SIZE, np.uint8)]
    assert [made for made, _ in found] == [2, 2, 3, 3, 3, 3, 3]
    assert np.array_equal(np.stack([frame for _, frame in found]), np.stack(here))


@pytest.mark.parametrize("apart", [True, False])
def test_a_nan_is_found_and_the_windows_before_it_come(monkeypatch, apart):
    monkeypatch.setattr(pixels, "works_apart", lambda device: apart)
    frames = round_frames(windows([], broken=1), SPAN, SIZE, np.uint16)
    assert [next(frames).shape for _ in range(2)] == [(6, 7, 3)] * 2
    with pytest.raises(BadInput, match="NaN"):
        list(frames)

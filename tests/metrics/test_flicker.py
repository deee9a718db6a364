import pytest
import torch

from vidlatent.errors import BadInput
from vidlatent.metrics.flicker import Flicker


def grey(*levels: int) -> torch.Tensor:
    return torch.tensor(levels, dtype=torch.uint8).view(-1, 1, 1, 1).expand(-1, 4, 4, 3)


def test_a_constant_error_does_not_flicker():
    metric = Flicker()
    metric.update(grey(10, 50, 90), grey(17, 57, 97))
    assert metric.result() == {"mean": 0.0, "worst": 0.0}


def test_an_error_that_comes_and_goes_is_counted_in_levels():
    metric = Flicker()
    metric.update(grey(10, 10, 10), grey(10, 14, 9))
    assert metric.per_frame().tolist() == [4.0, 5.0]
    assert metric.result() == {"mean": 4.5, "worst": 5.0}


def test_a_step_between_two_calls_is_not_lost(pair):
    reference, distorted = pair(4, 16, 16)
    whole, pieces = Flicker(), Flicker()
    whole.update(reference, distorted)
    for r, d in zip(reference.split(1), distorted.split(1), strict=True):
        pieces.update(r, d)
    assert whole.per_frame().tolist() == pieces.per_frame().tolist()
    assert len(whole.per_frame()) == 3


def test_clips_of_other_depths_are_not_compared():
    with pytest.raises(BadInput, match="frames cannot be compared"):
        Flicker().update(grey(1, 2), grey(1, 2).to(torch.uint16))


def test_a_single_frame_cannot_flicker():
    metric = Flicker()
    metric.update(grey(1), grey(1))
    with pytest.raises(BadInput, match="flicker: needs 2 frames at least"):
        metric.result()


def test_sixteen_bits_flicker_in_levels_of_eight():
    deep = [frames.int().mul(257).to(torch.uint16) for frames in (grey(10, 10, 10), grey(10, 14, 9))]
    metric = Flicker()
    metric.update(*deep)
    assert metric.per_frame().tolist() == [4.0, 5.0]


def test_an_error_below_zero_flickers_as_one_above():
    metric = Flicker()
    metric.update(grey(100, 100), grey(97, 103))
    assert metric.result() == {"mean": 6.0, "worst": 6.0}

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


def test_a_single_frame_cannot_flicker():
    metric = Flicker()
    metric.update(grey(1), grey(1))
    with pytest.raises(BadInput, match="flicker: needs 2 frames at least"):
        metric.result()

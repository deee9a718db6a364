import math

import numpy as np
import pytest
import torch

from vidlatent.errors import BadInput
from vidlatent.metrics.psnr import Psnr

STORED = [28.066506050536066, 28.08545635760455, 28.207281004090362]  # scikit-image 0.26.0


def test_values_equal_the_stored_ones(pair):
    metric = Psnr()
    metric.update(*pair())
    assert metric.per_frame() == pytest.approx(STORED, abs=1e-9)


def test_agrees_with_scikit_image(pair):
    reference, distorted = pair(2, 31, 47)
    oracle = pytest.importorskip("skimage.metrics", reason="scikit-image is not installed")
    metric = Psnr()
    metric.update(reference, distorted)
    expected = [
        oracle.peak_signal_noise_ratio(x.numpy(), y.numpy())
        for x, y in zip(reference, distorted, strict=True)
    ]
    assert metric.per_frame() == pytest.approx(expected, abs=1e-9)


def test_one_level_everywhere_is_48_13_db():
    grey = torch.full((2, 8, 8, 3), 100, dtype=torch.uint8)
    metric = Psnr()
    metric.update(grey, grey + 1)
    assert metric.result()["mean"] == pytest.approx(20 * math.log10(255), abs=1e-12)


def test_identical_clips_are_infinitely_alike(pair):
    reference, _ = pair()
    metric = Psnr()
    metric.update(reference, reference)
    assert metric.result() == {"mean": math.inf, "worst": math.inf, "pooled": math.inf, "identical": 3}


def test_identical_frames_do_not_lift_the_mean_of_the_others(pair):
    reference, distorted = pair()
    distorted[1] = reference[1]
    metric = Psnr()
    metric.update(reference, distorted)
    result = metric.result()
    assert result["mean"] == pytest.approx((STORED[0] + STORED[2]) / 2, abs=1e-9)
    assert result["identical"] == 1
    assert metric.per_frame()[1] == math.inf


def test_a_ceiling_is_the_value_of_identical_frames_and_counts(pair):
    reference, distorted = pair()
    distorted[1] = reference[1]
    metric = Psnr(ceiling=100)
    metric.update(reference, distorted)
    assert metric.result()["mean"] == pytest.approx((STORED[0] + 100 + STORED[2]) / 3, abs=1e-9)


def test_pooled_is_the_decibel_of_the_mean_error(pair):
    metric = Psnr()
    metric.update(*pair())
    mse = np.mean(255**2 / 10 ** (np.array(STORED) / 10))
    assert metric.result()["pooled"] == pytest.approx(10 * math.log10(255**2 / mse), abs=1e-9)


def test_frames_may_come_in_any_pieces(pair):
    reference, distorted = pair()
    whole, pieces = Psnr(), Psnr()
    whole.update(reference, distorted)
    for r, d in zip(reference.split(2), distorted.split(2), strict=True):
        pieces.update(r, d)
    assert np.array_equal(whole.per_frame(), pieces.per_frame())


def test_no_frames_at_all_is_an_error():
    with pytest.raises(BadInput, match="psnr: needs one frame at least"):
        Psnr().result()


def test_sixteen_bits_are_measured_against_their_own_peak():
    deep = torch.full((1, 8, 8, 3), 30_000, dtype=torch.uint16)
    metric = Psnr()
    metric.update(deep, (deep.int() + 1).to(torch.uint16))
    assert metric.result()["mean"] == pytest.approx(20 * math.log10(65535), abs=1e-12)


def test_squares_of_sixteen_bits_are_exact():
    """4097² has one bit more than a float32 keeps."""
    deep = torch.full((1, 8, 8, 3), 30_000, dtype=torch.uint16)
    metric = Psnr()
    metric.update(deep, (deep.int() + 4097).to(torch.uint16))
    assert metric.result()["mean"] == pytest.approx(20 * math.log10(65535 / 4097), abs=1e-12)


def test_clips_of_other_sizes_or_depths_are_not_compared():
    grey = torch.zeros(2, 8, 8, 3, dtype=torch.uint8)
    for other in (grey[:1], grey.to(torch.uint16)):
        with pytest.raises(BadInput, match="frames cannot be compared"):
            Psnr().update(grey, other)


def test_the_protocol_says_what_identical_frames_count():
    assert "identical frames: inf, left out of the mean" in Psnr().protocol
    assert "identical frames: 100 dB, like any more alike" in Psnr(ceiling=100).protocol


def test_a_ceiling_holds_frames_that_are_almost_identical_too():
    reference = torch.zeros(1, 64, 64, 3, dtype=torch.uint8)
    distorted = reference.clone()
    distorted[0, 0, 0, 0] = 1
    metric = Psnr(ceiling=80)
    metric.update(reference, distorted)
    assert metric.result() == {"mean": 80, "worst": 80, "pooled": 80, "identical": 0}

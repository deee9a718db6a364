import pytest
import torch

from vidlatent.errors import BadInput
from vidlatent.metrics.ssim import MsSsim, Ssim, gaussian

SSIM = [0.787176356764398, 0.7924277502099759, 0.7978707492889194]  # scikit-image 0.26.0, float64
MS_SSIM = [0.9815784811262914, 0.982532205893138, 0.9835898620590608]  # pytorch-msssim 1.0.0, float64
FLOAT32 = 2e-6  # variances are differences of float32 numbers near 1


def test_ssim_equals_the_stored_values(pair):
    metric = Ssim()
    metric.update(*pair())
    assert metric.per_frame() == pytest.approx(SSIM, abs=FLOAT32)


def test_ms_ssim_equals_the_stored_values(pair):
    metric = MsSsim()
    metric.update(*pair())
    assert metric.per_frame() == pytest.approx(MS_SSIM, abs=FLOAT32)


def test_ssim_agrees_with_scikit_image(pair):
    oracle = pytest.importorskip("skimage.metrics", reason="scikit-image is not installed")
    reference, distorted = pair(1, 37, 53)
    metric = Ssim()
    metric.update(reference, distorted)
    expected = oracle.structural_similarity(
        reference[0].numpy(),
        distorted[0].numpy(),
        channel_axis=2,
        gaussian_weights=True,
        sigma=1.5,
        use_sample_covariance=False,
        data_range=255,
    )
    assert metric.result()["mean"] == pytest.approx(expected, abs=FLOAT32)


def test_ms_ssim_agrees_with_torchmetrics_on_odd_sides(pair):
    oracle = pytest.importorskip("torchmetrics.functional.image", reason="torchmetrics is not installed")
    reference, distorted = pair(1, 181, 193)
    metric = MsSsim()
    metric.update(reference, distorted)
    x, y = (frames.permute(0, 3, 1, 2).double() / 255 for frames in (reference, distorted))
    expected = oracle.multiscale_structural_similarity_index_measure(y, x, data_range=1.0)
    # torchmetrics averages the mirrored border in, we leave it out
    assert metric.result()["mean"] == pytest.approx(expected.item(), abs=1e-4)


@pytest.mark.parametrize("metric", [Ssim(), MsSsim()])
def test_identical_clips_score_exactly_one(pair, metric):
    reference, _ = pair()
    metric.update(reference, reference)
    assert metric.result() == {"mean": 1.0, "worst": 1.0}


def test_flat_frames_of_different_grey_have_the_closed_form():
    """Without variance only luminance is left: (2ab + C1) / (a² + b² + C1)."""
    metric = Ssim()
    metric.update(
        torch.full((1, 16, 16, 3), 51, dtype=torch.uint8), torch.full((1, 16, 16, 3), 102, dtype=torch.uint8)
    )
    assert metric.result()["mean"] == pytest.approx((2 * 0.08 + 1e-4) / (0.2**2 + 0.4**2 + 1e-4), abs=1e-4)


def test_the_worst_frame_is_named(pair):
    metric = Ssim()
    metric.update(*pair())
    assert metric.result()["worst"] == pytest.approx(min(SSIM), abs=FLOAT32)


def test_the_window_is_a_gaussian_of_sum_one():
    window = gaussian()
    assert window.sum().item() == pytest.approx(1)
    assert (window[5] / window[4]).item() == pytest.approx(torch.tensor(1 / 4.5).exp().item())


@pytest.mark.parametrize(("metric", "side"), [(Ssim(), 11), (MsSsim(), 176)])
def test_frames_smaller_than_the_window_are_refused(metric, side):
    small = torch.zeros((1, side - 1, 300, 3), dtype=torch.uint8)
    with pytest.raises(BadInput, match=f"frames of 300×{side - 1} are too small.* {side} pixels"):
        metric.update(small, small)

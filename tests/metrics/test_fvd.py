import numpy as np
import pytest
import torch

from vidlatent.errors import BadInput, BadWeights
from vidlatent.metrics.fvd import Fvd, Moments, frechet_distance


class Features(torch.nn.Module):
    """Stands in for I3D: the same signature, six features that follow brightness and motion."""

    def forward(self, x: torch.Tensor, rescale: bool, resize: bool, return_features: bool) -> torch.Tensor:
        assert x.shape[1:] == torch.Size([3, 16, 224, 224])
        motion = (x[:, :, 1:] - x[:, :, :-1]).abs()
        return torch.cat([x.mean(dim=[2, 3, 4]), motion.mean(dim=[2, 3, 4])], dim=1)


@pytest.fixture(scope="module")
def network(tmp_path_factory):
    path = tmp_path_factory.mktemp("fvd") / "i3d.pt"
    torch.jit.script(Features()).save(path)
    return path


def moments(samples: np.ndarray) -> Moments:
    total = Moments()
    for sample in samples:
        total.add(sample)
    return total


def test_identical_clips_are_at_distance_zero(pair, network):
    reference, _ = pair(32, 24, 24)
    metric = Fvd(network)
    metric.update(reference, reference)
    result = metric.result()
    assert result["mean"] == pytest.approx(0, abs=1e-6)
    assert result["windows"] == 2


def test_different_clips_are_apart(pair, network):
    metric = Fvd(network)
    metric.update(*pair(32, 24, 24))
    assert metric.result()["mean"] > 1e-3


def test_no_window_holds_frames_of_two_clips(pair, network):
    reference, distorted = pair(24, 24, 24)
    metric = Fvd(network)
    for _ in range(2):
        metric.update(reference, distorted)
        metric.end_clip()
    assert metric.result()["windows"] == 2


def test_one_window_has_no_spread(pair, network):
    metric = Fvd(network)
    metric.update(*pair(31, 24, 24))
    with pytest.raises(BadInput, match="needs 2 windows of 16 frames at least, saw 1"):
        metric.result()


def test_the_distance_of_gaussians_has_its_closed_form():
    """Commuting covariances: |Δmean|² + Σ(√a - √b)²."""
    corners = np.array([[1.0, 1], [1, -1], [-1, 1], [-1, -1]])
    a, b = moments(corners * [1, 2]), moments(corners * [3, 1] + [5, 0])
    unit = np.sqrt(4 / 3)  # sample standard deviation of ±1, four times
    expected = 25 + ((1 - 3) ** 2 + (2 - 1) ** 2) * unit**2
    assert frechet_distance(a, b) == pytest.approx(expected)


def test_features_that_are_not_numbers_are_refused():
    with pytest.raises(BadInput, match="features of window 0 are not numbers"):
        Moments().add(np.array([1.0, np.nan]))


def test_a_file_that_is_no_network_is_refused(tmp_path):
    path = tmp_path / "i3d.pt"
    path.write_bytes(b"nothing")
    with pytest.raises(BadWeights, match="not a TorchScript network"):
        Fvd(path)

"""Small networks of random weights against those of diffusers, one more independent implementation."""

import pytest
import torch
from helpers import cases

import vidlatent

diffusers = pytest.importorskip("diffusers", reason="diffusers is not installed")
one_thread = cases.one_thread

WAN22 = {
    **{"is_residual": True, "in_channels": 12, "out_channels": 12, "patch_size": 2},
    **{"decoder_base_dim": 12, "scale_factor_spatial": 16},
}
NETWORKS = {  # class of diffusers, config, the clip that goes through
    "wan-2.1": ("AutoencoderKLWan", {"base_dim": 8}, (1, 3, 9, 24, 16)),
    "wan-2.2": ("AutoencoderKLWan", {"base_dim": 8, **WAN22}, (1, 3, 9, 32, 16)),
    "qwen-image": ("AutoencoderKLQwenImage", {"base_dim": 8}, (1, 3, 5, 16, 24)),
}


@pytest.fixture(scope="module", params=list(NETWORKS))
def both(request, tmp_path_factory):
    """A network of theirs, ours of the same weights, and a clip."""
    kind, config, shape = NETWORKS[request.param]
    torch.manual_seed(0)
    theirs = getattr(diffusers, kind)(**config).eval().requires_grad_(False)
    for parameter in theirs.parameters():
        parameter += 0.05 * torch.randn_like(parameter)  # gains are 1 and biases 0 to begin with
    folder = tmp_path_factory.mktemp(request.param)
    cases.publish({"_class_name": kind, **theirs.config}, dict(theirs.state_dict()), folder)
    return theirs, vidlatent.load_model(folder, device="cpu"), torch.rand(shape) * 2 - 1


def test_moments_and_pixels_are_those_of_diffusers(both):
    theirs, ours, video = both
    moments = theirs.encode(video).latent_dist.parameters
    got = ours.encode(video)
    cases.assert_close(torch.cat([got.mean, got.logvar], dim=1), moments)
    mean = moments.chunk(2, dim=1)[0]
    cases.assert_close(ours.decode(mean).clamp(-1, 1), theirs.decode(mean).sample)

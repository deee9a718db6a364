"""Small networks of random weights against those of diffusers, one more independent implementation."""

import pytest
import torch
from helpers import cases
from helpers.diffusers_networks import NETWORKS, twins

pytest.importorskip("diffusers", reason="diffusers is not installed")
one_thread = cases.one_thread


@pytest.fixture(scope="module", params=list(NETWORKS))
def both(request, tmp_path_factory):
    """A network of theirs, ours of the same weights, and a clip."""
    theirs, ours = twins(request.param, tmp_path_factory.mktemp(request.param))
    return theirs, ours, torch.rand(NETWORKS[request.param][2]) * 2 - 1


def test_moments_and_pixels_are_those_of_diffusers(both):
    theirs, ours, video = both
    moments = theirs.encode(video).latent_dist.parameters
    got = ours.encode(video)
    cases.assert_close(torch.cat([got.mean, got.logvar], dim=1), moments)
    mean = moments.chunk(2, dim=1)[0]
    told = {"temb": torch.tensor([0.05])} if ours.spec.options else {}
    pixels = theirs.decode(mean, **told).sample  # some clamp them
    cases.assert_close(ours.decode(mean).clamp(-1, 1), pixels.clamp(-1, 1))
    assert (pixels.abs() < 1).float().mean() > 0.5

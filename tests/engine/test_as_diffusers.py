"""A model in the place of a VAE of diffusers: the calls that pipelines make give the same numbers."""

import sys
import warnings

import pytest
import torch
from helpers import cases
from helpers.diffusers_networks import NETWORKS, twins
from helpers.random_models import random_model
from torch import Tensor, nn

import vidlatent
from vidlatent.errors import BadInput, UsageError

pytest.importorskip("diffusers", reason="diffusers is not installed")
one_thread = cases.one_thread
TIMESTEP = torch.tensor([0.05, 0.3])  # of each clip of a batch, for decoders that are told how noisy they are


# What the pipelines of diffusers do with a `vae` once its latents are made, and what they read of it.


def decode_as_wan(vae: nn.Module, latents: Tensor) -> Tensor:
    config = vae.config
    mean, std = (
        torch.tensor(values).view(1, config.z_dim, 1, 1, 1)
        for values in (config.latents_mean, config.latents_std)
    )
    return vae.decode(latents.to(vae.device, dtype=vae.dtype) * std + mean, return_dict=False)[0]


def decode_as_hunyuan(vae: nn.Module, latents: Tensor) -> Tensor:
    return vae.decode(latents.to(vae.dtype) / vae.config.scaling_factor, return_dict=False)[0]


def decode_as_cogvideox(vae: nn.Module, latents: Tensor) -> Tensor:
    return vae.decode(1 / vae.config.scaling_factor * latents).sample


def decode_as_ltx(vae: nn.Module, latents: Tensor) -> Tensor:
    mean, std = (values.view(1, -1, 1, 1, 1) for values in (vae.latents_mean, vae.latents_std))
    latents = (latents * std / vae.config.scaling_factor + mean).to(vae.dtype)
    timestep = TIMESTEP[: len(latents)] if vae.config.timestep_conditioning else None
    return vae.decode(latents, timestep, return_dict=False)[0]


WAN = ("z_dim", "latents_mean", "latents_std", "scale_factor_temporal", "scale_factor_spatial")
RATIOS = ("temporal_compression_ratio", "spatial_compression_ratio")
COGVIDEOX = ("block_out_channels", "temporal_compression_ratio", "scaling_factor", "invert_scale_latents")
PIPELINES = {  # network, how its pipelines decode, what they read of its config, and of itself
    "wan-2.1": (decode_as_wan, WAN, ()),
    "wan-2.2": (decode_as_wan, WAN, ()),
    "qwen-image": (decode_as_wan, ("z_dim", "latents_mean", "latents_std"), ("temperal_downsample",)),
    "hunyuan-video": (decode_as_hunyuan, ("scaling_factor",), RATIOS),
    "hunyuan-video-1.5": (decode_as_hunyuan, ("scaling_factor", "latent_channels"), RATIOS),
    "cogvideox": (decode_as_cogvideox, COGVIDEOX, ()),
    "ltx-video-0.9.5": (decode_as_ltx, ("scaling_factor", "timestep_conditioning"), RATIOS),
    "ltx-2": (decode_as_ltx, ("scaling_factor", "timestep_conditioning"), RATIOS),
}


@pytest.fixture(scope="module", params=list(PIPELINES))
def pair(request, tmp_path_factory):
    """The name of a network, theirs, and ours in its place."""
    theirs, model = twins(request.param, tmp_path_factory.mktemp(request.param))
    if request.param == "hunyuan-video-1.5":
        theirs.enable_slicing()  # its attention takes no batches otherwise
    return request.param, theirs, vidlatent.as_diffusers(model)


def clips(name: str, count: int) -> Tensor:
    torch.manual_seed(1)
    return torch.rand(count, *NETWORKS[name][2][1:]) * 2 - 1


def plain(value: object) -> object:
    """A list for a tuple: JSON has no tuples."""
    return list(value) if isinstance(value, tuple | list) else value


def test_pipelines_read_the_same(pair):
    name, theirs, ours = pair
    _, of_config, of_itself = PIPELINES[name]
    assert {key: plain(ours.config[key]) for key in of_config} == {
        key: plain(theirs.config[key]) for key in of_config
    }
    assert {key: plain(getattr(ours, key)) for key in of_itself} == {
        key: plain(getattr(theirs, key)) for key in of_itself
    }
    assert (ours.dtype, ours.device) == (theirs.dtype, theirs.device)


def test_pipelines_decode_to_the_same_pixels(pair):
    name, theirs, ours = pair
    decode = PIPELINES[name][0]
    mean = theirs.encode(clips(name, 2)).latent_dist.mode()
    latents = torch.randn(mean.shape, generator=torch.Generator().manual_seed(2))
    cases.assert_close(decode(ours, latents), decode(theirs, latents))


def test_pipelines_encode_to_the_same_latents(pair):
    name, theirs, ours = pair
    video = clips(name, 1)
    cases.assert_close(ours.encode(video).latent_dist.mode(), theirs.encode(video).latent_dist.mode())
    drawn = [
        vae.encode(video, return_dict=False)[0].sample(torch.Generator().manual_seed(3))
        for vae in (ours, theirs)
    ]
    cases.assert_close(*drawn)


@pytest.fixture
def pocket():
    return vidlatent.as_diffusers(random_model("pocket"))


def test_a_clip_goes_through_a_few_latents_at_a_time(pocket, monkeypatch):
    sizes, decode = [], pocket.network.decode
    monkeypatch.setattr(
        pocket.network, "decode", lambda z, state: sizes.append(z.shape) or decode(z, state), raising=False
    )
    z = torch.randn(2, 16, 23, 4, 4)
    video = pocket.decode(z).sample
    assert video.shape == (2, 3, 89, 32, 32)
    assert {shape[0] for shape in sizes} == {1} and max(shape[2] for shape in sizes) <= 5


def test_what_comes_out_may_be_changed_in_place(pocket):
    video = pocket.decode(torch.randn(1, 16, 2, 4, 4)).sample.add_(1)
    assert not video.is_inference()
    assert not pocket.encode(video).latent_dist.parameters.add_(1).is_inference()


def test_a_dtype_that_the_pipeline_sets_is_heeded(pocket):
    pocket.to(torch.bfloat16)
    video = pocket.decode(torch.randn(1, 16, 2, 4, 4)).sample
    assert (pocket.dtype, video.dtype) == (torch.bfloat16, torch.bfloat16)
    assert pocket.encode(video).latent_dist.mode().dtype == torch.bfloat16


def test_a_plan_of_tiles_is_followed():
    model = random_model("pocket")
    z = torch.randn(1, 16, 2, 8, 8)
    tiled = vidlatent.as_diffusers(model, model.plan(tile=32)).decode(z).sample
    assert torch.equal(tiled, model.decode(z, model.plan(tile=32)))
    assert not torch.equal(tiled, vidlatent.as_diffusers(model).decode(z).sample)


def test_switches_of_diffusers_are_accepted_and_said(pocket):
    with pytest.warns(UserWarning, match=r"tiles are cut as its plan says: .*plan\(tile=256\)"):
        pocket.enable_tiling(tile_sample_min_height=256)
    with pytest.warns(UserWarning, match="go through one by one"):
        pocket.enable_slicing()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        pocket.disable_tiling()
        pocket.disable_slicing()


def test_weights_that_were_offloaded_are_fetched_first(pocket):
    class Hook:
        fetched = 0

        def pre_forward(self, module):
            assert module is pocket
            self.fetched += 1

    pocket._hf_hook = Hook()
    pocket.decode(torch.randn(1, 16, 1, 4, 4))
    pocket.encode(torch.rand(1, 3, 1, 32, 32))
    assert pocket._hf_hook.fetched == 2


def test_latents_of_another_model_are_refused(pocket):
    with pytest.raises(BadInput, match=r"expected floats \[B, 16, t, h, w\]"):
        pocket.decode(torch.randn(1, 4, 1, 4, 4))


def test_without_diffusers_it_says_how_to_install_it(monkeypatch):
    monkeypatch.setitem(sys.modules, "diffusers", None)
    with pytest.raises(UsageError, match=r"not installed\nhint: pip install 'vidlatent\[diffusers\]'"):
        vidlatent.as_diffusers(random_model("toy"))

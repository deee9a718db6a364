"""How far back a network sees: what its layers add up to is what a perturbation reaches, and no less."""

import re
from importlib.util import find_spec

import pytest
import torch
from helpers import cases
from helpers.ltx_files import narrowed
from helpers.paths import ROOT

from vidlatent.models import registry, wan_config
from vidlatent.models.causal import TimeState, whole
from vidlatent.models.horizon import latent_of

one_thread = cases.one_thread

AT = 2  # the latent that is perturbed
SIDE = 2  # of the smallest latents that every network here takes
PAST = 5  # latents that growing state looks back
WF = {
    **{"_class_name": "WFVAEModel", "norm_type": "layernorm", "base_channels": 4, "latent_dim": 2},
    **{"encoder_energy_flow_hidden_size": 4, "decoder_energy_flow_hidden_size": 4},
}
CONFIGS = {
    "toy": {"_class_name": "ToyVAE"},
    "pocket": {"_class_name": "PocketVAE", "stem": 4, "width": 8},
    "pocket, other depths": {
        **{"_class_name": "PocketVAE", "stem": 4, "width": 8, "encoder_stem_blocks": 3},
        **{"encoder_blocks": 2, "decoder_blocks": 1, "decoder_stem_blocks": 6, "looks_ahead": True},
    },
    "wf-vae": {**WF, "t_interpolation": "trilinear", "connect_res_layer_num": 1},
    "wf-vae, nearest": {**WF, "t_interpolation": "nearest", "encoder_num_resblocks": 1},
    "wf-vae, deep beside": {
        **{**WF, "t_interpolation": "trilinear", "connect_res_layer_num": 9},
        **{"encoder_num_resblocks": 1, "decoder_num_resblocks": 1},
    },
    "wan-2.1": {**wan_config.WAN21, "base_dim": 4, "z_dim": 2},
    "wan-2.2": {**wan_config.WAN22, "base_dim": 4, "decoder_base_dim": 4, "z_dim": 2},
    "hunyuan-video-1.5": {
        **{"_class_name": "AutoencoderKLHunyuanVideo15", "block_out_channels": [8] * 5},
        **{"layers_per_block": 1, "latent_channels": 2},
    },
    "ltx-video-0.9.0": narrowed("ltx-video-0.9.0"),
    "ltx-2": narrowed("ltx-2"),
    "ltx-2.3": narrowed("ltx-2.3"),
    "tae": {"_class_name": "TAEHV", "latent_channels": 3},
    "tae of ltx": {
        **{"_class_name": "TAEHV", "latent_channels": 3, "patch_size": 4},
        **{"encoder_time_downscale": [True] * 3, "decoder_time_upscale": [True] * 3},
    },
    "image": {
        "_class_name": "AutoencoderKL",
        **{"block_out_channels": [8, 8], "norm_num_groups": 4, "layers_per_block": 1},
        **{"down_block_types": ["DownEncoderBlock2D"] * 2, "up_block_types": ["UpDecoderBlock2D"] * 2},
    },
}
if find_spec("diffusers"):
    CONFIGS["magvit, through diffusers"] = {
        **{"_class_name": "AutoencoderKLMagvit", "latent_channels": 2, "layers_per_block": 1},
        **{"block_out_channels": [4, 4, 4, 4], "norm_num_groups": 2},
    }
PUBLISHED = {
    "pocket": (5, 7),
    "wan-2.1": (28, 38),
    "wan-2.2-5b": (28, 38),
    "wf-vae-s": (15, 32),
    "sd-vae-1.5": (0, 0),
}


@pytest.fixture(params=CONFIGS)
def network(request, monkeypatch):
    monkeypatch.setattr("vidlatent.models.tae_vae.WIDTH", 4)
    monkeypatch.setattr("vidlatent.models.tae_vae.WIDTHS", (4,) * 4)
    torch.manual_seed(0)
    family = registry.family_of(CONFIGS[request.param])
    net = family.build(family.spec_of(CONFIGS[request.param])).eval().requires_grad_(False)
    for name, parameter in net.named_parameters():
        if "scale_shift" in name:
            torch.nn.init.normal_(parameter, std=0.3)
    return net


def last_spoilt(y: torch.Tensor) -> int:
    """The last of what a network gave, [B, C, T, H, W], that is not a number."""
    return int(torch.nonzero(y.isnan().any(dim=1).flatten(2).any(2)[0])[-1])


def test_encoding_sees_as_far_back_as_its_layers_add_up_to(network):
    """What is not a number spoils whatever it is a part of, however small its part."""
    spec = network.spec
    grid, past = spec.grid, PAST if spec.grows else 0
    horizon = spec.horizon.encode + max(0, past - 1)
    frames = grid.frames(AT + horizon + 3)
    video = torch.rand(1, 3, frames, *(SIDE * grid.space,) * 2)
    video[:, :, grid.frames(AT) : grid.frames(AT + 1)] = torch.nan
    moments = whole(network.encode(video, TimeState(past=past)))
    assert last_spoilt(moments[:, : spec.channels]) == AT + horizon


def test_decoding_sees_as_far_back_as_its_layers_add_up_to(network):
    spec = network.spec
    past = PAST if spec.grows else 0
    horizon = spec.horizon.decode + max(0, past - 1)
    latents = torch.randn(1, spec.channels, AT + horizon + 3, SIDE, SIDE)
    latents[:, :, AT] = torch.nan
    video = whole(network.decode(latents, TimeState(past=past)))
    assert latent_of(spec.grid, last_spoilt(video)) == AT + horizon


@pytest.mark.parametrize(("name", "horizon"), PUBLISHED.items())
def test_horizons_of_published_models(name, horizon):
    spec = registry.resolve(name).spec if name in registry.BUNDLED else registry.find(name)
    assert (spec.horizon.encode, spec.horizon.decode) == horizon


@pytest.mark.parametrize("name", ["cogvideox-2b", "hunyuan-video", "od-vae-1.2", "cv-vae-sd3"])
def test_norms_over_a_window_leave_no_horizon(name):
    assert registry.find(name).horizon is None


def test_every_exact_model_states_its_horizon():
    assert all(spec.horizon is not None for spec in registry.specs() if spec.exact)


def test_the_table_of_the_docs_says_what_the_models_say():
    page = (ROOT / "docs/long-clips.md").read_text()
    said = {}
    for row in page.split("## Horizons")[1].split("##")[0].splitlines():
        if found := re.fullmatch(r"\| (`.*) \| (\d+)\D.*\| (\d+)\b.*\|", row):
            said |= {name: (int(found[2]), int(found[3])) for name in re.findall(r"`([\w.-]+)`", found[1])}
    known = {**{spec.name: spec for spec in registry.specs()}, "pocket": registry.resolve("pocket").spec}
    true = {name: known[name].horizon for name in said if name in known}
    assert {name: (true[name].encode, true[name].decode) for name in true} == {
        name: said[name] for name in true
    }
    assert len(true) > 20

"""OD-VAE against the authors' code, bare and through the engine; and what its configs may say."""

import csv
import json
import math
from pathlib import Path

import pytest
import torch
from helpers import cases
from safetensors.torch import load_file

import vidlatent
from vidlatent.engine.model import Model
from vidlatent.errors import BadWeights, UsageError
from vidlatent.models.causal import TimeState, whole
from vidlatent.models.convolution import FrameConv2d
from vidlatent.models.layers import Attention
from vidlatent.models.od_config import OdConfig
from vidlatent.models.od_vae import FAMILY, LegacyAttention, double_time, tilings
from vidlatent.windows import Plan, Tiling, TimeRule

one_thread = cases.one_thread

COMPACT = sorted(path.name for path in cases.GOLDEN.glob("od_*"))


@pytest.fixture(scope="module", params=COMPACT)
def case(request, tmp_path_factory):
    return cases.compact(request.param, tmp_path_factory.mktemp(request.param))


def plan_of(model: Model, tiling: dict | None) -> Plan:
    if tiling is None:
        return model.plan(window=0, latent_window=0)
    return model.plan(
        window=tiling["tile_sample_min_size_t"],
        latent_window=tiling["tile_latent_min_size_t"],
        tile=tiling["tile_sample_min_size"],
        overlap=tiling["tile_overlap_factor"],
    )


def test_every_golden_run_through_the_engine(case):
    for run in case.facts["runs"]:
        video = case.video(run)
        if video.shape[-2] % 8 or video.shape[-1] % 8:
            continue  # the engine pads, these describe what the bare network does
        plan = plan_of(case.model, run["tiling"])
        moments = torch.cat(list(case.model.encode_stream(video.unbind(2), plan)), dim=2)
        cases.assert_close(moments, case.wanted[run["moments"]])
        if run["decoded"]:
            cases.assert_close(case.model.decode(case.mean(run), plan), case.wanted[run["decoded"]])


@pytest.mark.parametrize("case", ["od_v120"], indirect=True)
def test_sides_and_lengths_off_the_grid_are_floored_by_the_bare_network(case):
    runs = {run["name"]: run for run in case.facts["runs"]}
    for name in ("odd1", "t7"):
        cases.assert_close(
            cases.bare_encode(case.model, case.video(runs[name])), case.wanted[f"{name}.moments"]
        )
    cases.assert_close(cases.bare_decode(case.model, case.mean(runs["odd1"])), case.wanted["odd1.decoded"])


@pytest.mark.parametrize("name", ["v110_release", "v120_release"])
def test_larger_goldens_of_a_release(shared, name):
    model, io = from_shared(shared, name)
    tiling = json.loads((shared / "golden/od_vae" / name / "case.json").read_text())["tiling"] or {}
    for key in [key.removeprefix("moments_") for key in io if key.startswith("moments_")]:
        plan = plan_of(model, tiling.get(key))
        if key.startswith("prefix"):
            frames = io["x_t29_24x40"][:, :, : int(key.removeprefix("prefix"))].unbind(2)
            cases.assert_close(
                torch.cat(list(model.encode_stream(frames, plan)), dim=2), io[f"moments_{key}"]
            )
        else:
            moments = io[f"moments_{key}"]
            posterior = model.encode(io[f"x_{key}"], plan)
            cases.assert_close(torch.cat([posterior.mean, posterior.logvar], dim=1), moments)
            cases.assert_close(model.decode(moments[:, :4], plan), io[f"dec_{key}"])


def test_larger_goldens_of_any_latents(shared):
    model, io = from_shared(shared, "v120_release")
    plan = model.plan(window=0, latent_window=0)
    for name in ("z_zero", "z_rand"):
        cases.assert_close(model.decode(io[name], plan), io[f"dec_{name}"])


@pytest.mark.parametrize("name", ["a", "b", "c", "d"])
def test_larger_goldens_cut_in_time(shared, name):
    model, io = from_shared(shared, "v120_temporal_tiled")
    facts = json.loads((shared / "golden/od_vae/v120_temporal_tiled/case.json").read_text())["tiling"][name]
    plan = model.plan(facts["tile_sample_min_size_t"], facts["tile_latent_min_size_t"])
    frames = io["x_long"][:, :, : facts["frames"]].unbind(2)
    moments = torch.cat(list(model.encode_stream(frames, plan)), dim=2)
    cases.assert_close(moments, io[f"moments_tiled_{name}"])
    decoded = model.decode(io[f"moments_tiled_{name}"][:, :4], plan)
    wanted = io[f"dec_tiled_{name}"]
    cases.assert_close(decoded[:, :, -wanted.shape[2] :], wanted)  # of c only the end is stored


@pytest.mark.parametrize("frames", [34, 35, 36, 37, 38, 40])
def test_larger_goldens_of_tails(shared, frames):
    model, io = from_shared(shared, "v120_temporal_tiled")
    stream = model.encode_stream(io["x_long"][:, :, :frames].unbind(2), model.plan(window=17))
    cases.assert_close(torch.cat(list(stream), dim=2), io[f"moments_tail{frames}"])


def from_shared(shared: Path, name: str) -> tuple[Model, dict[str, torch.Tensor]]:
    folder = shared / "golden" / "od_vae" / name
    return vidlatent.load_model(folder, device="cpu"), load_file(folder / "io.safetensors")


@pytest.mark.parametrize(
    ("name", "parameters"),
    [("od-vae-1.0", 229_169_895), ("od-vae-1.1", 246_859_499), ("od-vae-1.2", 239_189_991)],
)
def test_releases_have_the_published_number_of_parameters(name, parameters):
    assert sum(p.numel() for p in on_meta(name).parameters()) == parameters


@pytest.mark.parametrize("version", ["1_0", "1_1", "1_2"])
def test_releases_have_the_authors_keys_and_shapes(shared, version):
    with (shared / f"spec/keys/od_vae_keys_v{version}_0.tsv").open() as file:
        wanted = {row["key"]: row["shape"] for row in csv.DictReader(file, delimiter="\t")}
    state = on_meta(f"od-vae-{version.replace('_', '.')}").state_dict()
    assert {key: "x".join(map(str, value.shape)) for key, value in state.items()} == wanted


def on_meta(name: str) -> torch.nn.Module:
    with torch.device("meta"):
        return FAMILY.build(next(spec for spec in FAMILY.specs if spec.name == name))


def test_plans_of_the_releases_are_the_authors():
    plans = {spec.name: spec.plan for spec in FAMILY.specs}
    assert plans["od-vae-1.2"] == Plan(TimeRule(32, 1), TimeRule(15, 1))
    assert plans["od-vae-1.1"] == Plan(TimeRule(64, 1), TimeRule(16, 1))
    assert plans["od-vae-1.0"] == plans["od-vae-1.1"]  # declared there, never used: see the comment


def test_default_tiles_are_the_authors():
    spec = next(spec for spec in FAMILY.specs if spec.name == "od-vae-1.2")
    encode, decode = spec.tiles(256, spec.tile_overlap)
    assert encode == Tiling(size=256, step=224, blend=4, keep=28, slivers=True)
    assert decode == Tiling(size=32, step=28, blend=32, keep=224, slivers=True)


def test_tiles_that_would_lie_beside_their_place_are_refused():
    with pytest.raises(UsageError, match=r"step by 230, latents by 29 × 8 = 232\nhint: .*multiple of 64 px"):
        tilings(8, 256, 0.1)
    with pytest.raises(UsageError, match="do not fit a grid of 8 px"):
        tilings(8, 100, 0.25)
    with pytest.raises(UsageError, match="would step by 0"):
        tilings(8, 16, 0.97)


TINY = {
    "_class_name": "CausalVAEModel",
    "hidden_size": 32,
    "hidden_size_mult": [1, 1],
    "num_res_blocks": 1,
    "encoder_resnet_blocks": ["ResnetBlock2D", "ResnetBlock3D"],
    "encoder_spatial_downsample": ["Spatial2xTime2x3DDownsample", ""],
    "encoder_temporal_downsample": ["", ""],
    "decoder_resnet_blocks": ["ResnetBlock3D", "ResnetBlock3D"],
    "decoder_spatial_upsample": ["", "Spatial2xTime2x3DUpsample"],
    "decoder_temporal_upsample": ["", ""],
}


def tiny(**changes) -> torch.nn.Module:
    torch.manual_seed(0)
    return FAMILY.build(FAMILY.spec_of(TINY | changes)).eval().requires_grad_(False)


def test_the_grid_follows_from_the_samplers():
    spec = FAMILY.spec_of(TINY)
    assert (spec.grid.time, spec.grid.space) == (2, 2)
    assert whole(tiny().encode(torch.zeros(1, 3, 5, 8, 6), TimeState())).shape == (1, 8, 3, 4, 3)


def test_eight_latent_channels():
    network = tiny(z_channels=8, embed_dim=8)
    assert network.spec.channels == 8
    assert whole(network.encode(torch.zeros(1, 3, 3, 4, 4), TimeState())).shape == (1, 16, 2, 2, 2)
    assert whole(network.decode(torch.zeros(1, 8, 2, 2, 2), TimeState())).shape == (1, 3, 3, 4, 4)


def test_without_quant_layers_there_are_no_such_keys_and_the_width_is_the_inner_one():
    network = tiny(use_quant_layer=False, z_channels=6, embed_dim=4)
    assert network.spec.channels == 6
    assert not [key for key in network.state_dict() if "quant" in key]
    assert whole(network.decode(torch.zeros(1, 6, 2, 2, 2), TimeState())).shape == (1, 3, 3, 4, 4)


def test_attention_stands_after_each_block_of_the_levels_whose_nominal_resolution_is_named():
    keys = tiny(attn_resolutions=[128], encoder_attention="AttnBlock").state_dict()
    assert keys["encoder.down.1.attn.0.q.weight"].dim() == 4
    assert keys["decoder.up.1.attn.1.q.conv.weight"].dim() == 5
    assert not [key for key in keys if key.startswith(("encoder.down.0.attn", "decoder.up.0.attn"))]


def test_a_batch_is_clips_by_themselves():
    network, video = tiny(), torch.rand(2, 3, 5, 8, 8) * 2 - 1
    together = whole(network.encode(video, TimeState()))
    alone = torch.cat([whole(network.encode(clip[None], TimeState())) for clip in video])
    torch.testing.assert_close(together, alone, atol=1e-5, rtol=0)


def test_bfloat16_stays_near_float32():
    video = torch.rand(1, 3, 5, 8, 8) * 2 - 1
    exact = whole(tiny().encode(video, TimeState()))
    rough = whole(tiny().to(torch.bfloat16).encode(video.bfloat16(), TimeState()))
    assert rough.dtype == torch.bfloat16
    assert (rough.float() - exact).norm() / exact.norm() < 0.03  # three significant bits of eight to spare


@torch.inference_mode()
def test_frame_attention_is_softmax_over_the_positions_of_a_frame():
    x = torch.randn(2, 32, 3, 2, 4)
    for attention in (Attention(32), Attention(32, FrameConv2d)):
        n = normed(attention, x)
        q, k, v = (linear(part, n) for part in (attention.q, attention.k, attention.v))
        scores = torch.einsum("bctp,bctr->btpr", q, k) / math.sqrt(32)
        mixed = torch.einsum("btpr,bctr->bctp", scores.softmax(-1), v)
        wanted = x + linear(attention.proj_out, mixed).unflatten(-1, (2, 4))
        torch.testing.assert_close(attention(x), wanted, atol=1e-5, rtol=0)


@torch.inference_mode()
def test_legacy_attention_cuts_the_list_of_channels_and_frames_into_groups():
    channels, frames = 32, 3
    attention, x = LegacyAttention(channels), torch.randn(1, channels, frames, 2, 4)
    n = normed(attention, x)
    q, k, v = (linear(part, n)[0] for part in (attention.q, attention.k, attention.v))
    mixed = torch.empty_like(v)
    for group in range(frames):
        rows = [divmod(group * channels + j, frames) for j in range(channels)]  # (channel, frame) each
        a, b, c = (torch.stack([part[row] for row in rows]) for part in (q, k, v))
        out = c @ ((a.T @ b) / math.sqrt(channels)).softmax(-1).T
        for j, row in enumerate(rows):
            mixed[row] = out[j]
    wanted = x + linear(attention.proj_out, mixed[None]).unflatten(-1, (2, 4))
    torch.testing.assert_close(attention(x), wanted, atol=1e-5, rtol=0)


def normed(attention: Attention, x: torch.Tensor) -> torch.Tensor:
    if attention.norm.per_frame:
        frames = [torch.nn.functional.group_norm(frame, 32, eps=1e-6) for frame in x.unbind(2)]
        return torch.stack(frames, dim=2)
    return torch.nn.functional.group_norm(x, 32, eps=1e-6)


def linear(layer: torch.nn.Module, x: torch.Tensor) -> torch.Tensor:
    """A 1×1 convolution of [B, C, T, ...] with the positions of a frame flattened."""
    conv = getattr(layer, "conv", layer)
    y = torch.einsum("oc,bct...->bot...", conv.weight.flatten(1), x)
    return y.flatten(3) + conv.bias[:, None, None]


def test_time_is_doubled_after_the_first_frame_only():
    x = torch.tensor([5.0, 0.0, 4.0, 8.0]).view(1, 1, 4, 1, 1)
    assert double_time(x).flatten().tolist() == [5, 0, 1, 3, 5, 7, 8]
    assert double_time(x[:, :, :1], front=2).flatten().tolist() == [5, 5, 5]
    assert double_time(x[:, :, :2]).flatten().tolist() == [5, 0, 0]


def test_keys_of_a_config_that_mean_nothing_here_are_ignored_and_missing_ones_have_the_authors_defaults():
    config = OdConfig.of({"lr": 1e-5, "loss_params": {"disc_start": 2001}})
    assert config == OdConfig()
    assert config.encoder_temporal_downsample == ("", "TimeDownsample2x", "TimeDownsample2x", "")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"encoder_conv_in": "Conv4d"}, r"unknown module 'Conv4d'\nhint: known here: Conv2d, CausalConv3d"),
        ({"encoder_attention": "AttnBlock2D"}, "unknown module 'AttnBlock2D'"),
        ({"decoder_resnet_blocks": ["ResnetBlock3D"]}, "decoder_resnet_blocks names 1 modules for 2 levels"),
        ({"decoder_spatial_upsample": ["", "SpatialUpsample2x"]}, "shrinks time 2× .* grows them 1×"),
        ({"encoder_temporal_downsample": ["", "TimeDownsample2x"]}, "at the last level"),
        ({"hidden_size": "32"}, "hidden_size is '32', expected int"),
        ({"hidden_size_mult": 1}, "hidden_size_mult is 1, expected a list"),
        ({"hidden_size": 48}, "widths of 48 channels, expected multiples of 32"),
    ],
)
def test_configs_that_cannot_be_built_are_refused(change, message):
    with pytest.raises(BadWeights, match=message):
        tiny(**change)

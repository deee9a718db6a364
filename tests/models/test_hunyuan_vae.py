"""HunyuanVideo 1.0 against diffusers: every golden run, in one call and in the windows of either code."""

import csv

import pytest
import torch
from helpers import cases
from safetensors.torch import save_file

import vidlatent
from vidlatent.engine.model import Model
from vidlatent.engine.runtime import Runtime
from vidlatent.errors import BadWeights, UsageError
from vidlatent.models import registry
from vidlatent.models.causal import TimeState, whole
from vidlatent.models.hunyuan_vae import FAMILY, OF_AUTHORS, OF_DIFFUSERS, windows
from vidlatent.windows import Plan, Tiling, TimeRule, even_tiles

one_thread = cases.one_thread

SMALL = {"block_out_channels": [32, 32, 32, 32], "layers_per_block": 1, "latent_channels": 4}


@pytest.fixture(scope="module", params=["hy10", "hy10_temporal", "hy10_tiled"])
def case(request, tmp_path_factory):
    return cases.compact(request.param, tmp_path_factory.mktemp(request.param))


def plan_of(tiling: dict | None) -> Plan:
    """How the reference cut the clip of a run, whose attributes say it."""
    tiling = tiling or {}
    if not tiling.get("use_framewise_encoding", True):
        return Plan(TimeRule(0, 5), TimeRule(0, 2))
    frames = tiling.get("tile_sample_min_num_frames", 16)
    step = tiling.get("tile_sample_stride_num_frames", 12)
    shared = frames - step
    rules = TimeRule(step, shared + 1), TimeRule(step // 4, shared // 4 + 1, blend=shared)
    tiles = even_tiles(32, 0.25, 8, slivers=True) if tiling.get("use_tiling") else ()
    return Plan(*rules, *tiles)


def test_every_golden_run_through_the_engine(case):
    for run in case.facts["runs"]:
        plan, video = plan_of(run["tiling"]), case.video(run)
        if video.shape[-1] % 8:  # the engine would pad the sides
            continue
        moments = torch.cat(list(case.model.encode_stream(video.unbind(2), plan)), dim=2)
        cases.assert_close(moments, case.wanted[run["moments"]])
        if run["decoded"]:
            cases.assert_close(case.model.decode(case.mean(run), plan), case.wanted[run["decoded"]])


def test_golden_runs_of_one_window_in_one_call(case):
    single = [run for run in case.facts["runs"] if plan_of(run["tiling"]).encode_tiles is None]
    for run in single:
        if run["frames"] <= 17 and run["name"] != "t17":  # that one is blended when decoded
            cases.assert_close(cases.bare_encode(case.model, case.video(run)), case.wanted[run["moments"]])
            if run["decoded"]:
                cases.assert_close(cases.bare_decode(case.model, case.mean(run)), case.wanted[run["decoded"]])


@pytest.mark.parametrize("case", ["hy10"], indirect=True)
def test_clips_that_go_through_frame_by_frame_give_the_same(case, monkeypatch):
    """As large ones do: statistics are still those of the whole clip, and history those of the parts."""
    run = next(run for run in case.facts["runs"] if run["name"] == "t9")
    monkeypatch.setattr("vidlatent.models.streaming.PART_BYTES", 1)
    cases.assert_close(cases.bare_encode(case.model, case.video(run)), case.wanted[run["moments"]])
    cases.assert_close(cases.bare_decode(case.model, case.mean(run)), case.wanted[run["decoded"]])


def test_the_plan_of_the_model_is_that_of_diffusers():
    spec = registry.find("hunyuan-video")
    assert spec.plan == spec.plans["diffusers"] == OF_DIFFUSERS == plan_of(None)
    assert not spec.exact


def test_the_authors_cut_windows_of_64_frames_and_tiles_of_256_pixels():
    tiles = (
        Tiling(256, 192, 8, 24, slivers=True, whole=256),
        Tiling(32, 24, 64, 192, slivers=True, whole=32),
    )
    rules = TimeRule(48, 17, blend=4), TimeRule(12, 5, blend=16)
    assert Plan(*rules, *tiles) == OF_AUTHORS


def test_the_authors_windows_leave_64_frames_whole_and_blend_the_65th():
    """At 65 frames a second window of five latents begins, four of which are blended."""
    torch.manual_seed(0)
    network = FAMILY.build(FAMILY.spec_of(SMALL)).eval().requires_grad_(False)
    model = Model(network, Runtime.choose("cpu"))
    video = torch.rand(1, 3, 65, 8, 8) * 2 - 1
    plan = Plan(OF_AUTHORS.encode_time, OF_AUTHORS.decode_time)
    undivided = whole(network.encode(video[:, :, :64], TimeState()))
    assert torch.equal(torch.cat(list(model.encode_stream(video[:, :, :64].unbind(2), plan)), 2), undivided)
    first, second = (
        whole(network.encode(video[:, :, span], TimeState())) for span in (slice(65), slice(48, 65))
    )
    got = torch.cat(list(model.encode_stream(video.unbind(2), plan)), dim=2)
    torch.testing.assert_close(got[:, :, :13], first[:, :, :13])
    for k in range(4):
        mixed = first[:, :, 13 + k] * (1 - k / 4) + second[:, :, 1 + k] * (k / 4)
        torch.testing.assert_close(got[:, :, 13 + k], mixed)


def test_windows_that_share_no_quarter_are_refused():
    with pytest.raises(UsageError, match=r"windows of 21 frames.*\n.*for instance 17 or 33"):
        windows(21)


def test_a_bare_file_with_a_prefix_is_recognised(tmp_path):
    spec = FAMILY.spec_of(SMALL)
    state = FAMILY.build(spec).state_dict()
    published = {theirs(key): value for key, value in state.items()}
    save_file({f"vae.{key}": value for key, value in published.items()}, tmp_path / "some.safetensors")
    model = vidlatent.load_model(tmp_path / "some.safetensors", device="cpu")
    assert model.spec.family == "hunyuan_vae" and model.spec.channels == 4
    assert all(torch.equal(state[key], value) for key, value in model.network.state_dict().items())


def theirs(key: str) -> str:
    """Our name of a tensor as both codes write it."""
    for ours, name in (
        ("attentions.0.norm.", "attentions.0.group_norm."),
        (".proj_out.", ".to_out.0."),
        (".nin_shortcut.", ".conv_shortcut."),
    ):
        key = key.replace(ours, name)
    deeper = any(part in key for part in ("conv_in.", "conv_out.", "samplers."))
    return ".conv.".join(key.rsplit(".", 1)) if deeper else key


def test_the_authors_config_describes_the_same_network():
    config = {
        "_class_name": "AutoencoderKLCausal3D",
        "down_block_types": ["DownEncoderBlockCausal3D"] * 4,
        "up_block_types": ["UpDecoderBlockCausal3D"] * 4,
        "block_out_channels": [128, 256, 512, 512],
        "sample_size": 256,
        "sample_tsize": 64,
        "time_compression_ratio": 4,
        "scaling_factor": 0.476986,
    }
    assert registry.family_of(config).spec_of(config).config == registry.find("hunyuan-video").config


@pytest.mark.parametrize(
    ("key", "value"),
    [("act_fn", "relu"), ("time_compression_ratio", 8), ("up_block_types", ["UpDecoderBlock2D"])],
)
def test_what_no_release_names_is_refused(key, value):
    with pytest.raises(BadWeights, match="is not supported"):
        FAMILY.spec_of({key: value})


@pytest.mark.parametrize("table", ["diffusers", "original"])
def test_every_published_key_has_its_place(shared, table):
    with torch.device("meta"):
        network = FAMILY.build(registry.find("hunyuan-video"))
    with (shared / f"spec/keys/hunyuan10_{table}_keys.tsv").open() as file:
        rows = list(csv.DictReader(file, delimiter="\t"))
    published = {FAMILY.rename(row["key"]): row["shape"].removesuffix("x1x1x1") for row in rows}
    ours = {key: "x".join(map(str, value.squeeze().shape)) for key, value in network.state_dict().items()}
    assert published == ours

"""CogVideoX's VAE against diffusers' numbers; its batches, its two layouts, and files with even latents."""

import csv
import re
from dataclasses import replace

import pytest
import torch
import torch.nn.functional as F
from helpers import cases
from safetensors.torch import save_file

from vidlatent.engine.plan import PlanWishes, plan_for
from vidlatent.errors import BadWeights, UsageError
from vidlatent.jobs import models as job
from vidlatent.models import registry
from vidlatent.models.base import TileColumns
from vidlatent.models.causal import TimeState, whole
from vidlatent.models.cogvideox_vae import FAMILY, Down, GuidedNorm, Up, from_authors, from_diffusers
from vidlatent.models.weights import load_network
from vidlatent.windows import Tiling

one_thread = cases.one_thread

TINY = {"block_out_channels": [32, 32, 64, 64], "layers_per_block": 1, "latent_channels": 4}
BATCH = 8  # frames; and two latents


@pytest.fixture(scope="module", params=["cog", "cog_long"])
def case(request, tmp_path_factory):
    return cases.compact(request.param, tmp_path_factory.mktemp(request.param))


@pytest.fixture(scope="module")
def cog(tmp_path_factory):
    return cases.compact("cog", tmp_path_factory.mktemp("cog"))


@pytest.fixture(scope="module")
def tiled(tmp_path_factory):
    return cases.compact("cog_tiled", tmp_path_factory.mktemp("cog_tiled"))


@pytest.fixture(scope="module")
def tiny() -> torch.nn.Module:
    torch.manual_seed(0)
    return FAMILY.build(FAMILY.spec_of(TINY)).eval().requires_grad_(False)


def on_the_grid(video: torch.Tensor) -> bool:
    return all(side % 8 == 0 for side in video.shape[3:])


def test_every_golden_run_of_one_batch_in_one_call(case):
    runs = [run for run in case.facts["runs"] if run["frames"] < 2 * BATCH]
    assert runs
    for run in runs:
        cases.assert_close(cases.bare_encode(case.model, case.video(run)), case.wanted[run["moments"]])


def test_every_golden_run_through_the_engine(case):
    """`whole25` is one batch of all frames; sides off the grid are padded there and floored here."""
    for run in case.facts["runs"]:
        plan = case.model.plan(*((0, 0) if run["tiling"] else ()))
        if on_the_grid(case.video(run)):
            moments = case.model.encode(case.video(run), plan)
            moments = torch.cat([moments.mean, moments.logvar], dim=1)
            cases.assert_close(moments, case.wanted[run["moments"]])
        if run["decoded"]:
            cases.assert_close(case.model.decode(case.mean(run), plan), case.wanted[run["decoded"]])


def test_golden_runs_in_tiles_that_are_not_square(tiled):
    for run in tiled.facts["runs"]:
        cut = run["tiling"]
        height, width = (cut[f"tile_sample_min_{side}"] for side in ("height", "width"))
        overlaps = [cut[f"tile_overlap_factor_{side}"] for side in ("height", "width")]
        columns = TileColumns(width / height, overlaps[1])
        spec = replace(tiled.model.spec, tile_overlap=overlaps[0], tile_columns=columns)
        plan = plan_for(spec, PlanWishes(tile=height))
        moments = torch.cat(list(tiled.model.encode_stream(tiled.video(run).unbind(2), plan)), dim=2)
        cases.assert_close(moments, tiled.wanted[run["moments"]])
        cases.assert_close(tiled.model.decode(tiled.mean(run), plan), tiled.wanted[run["decoded"]])


def test_frames_of_the_default_tiles_size_go_whole(cog):
    plan = cog.model.plan(tile=240)
    assert plan.tiles_to_encode == (
        Tiling(240, 200, 5, 25, slivers=True, whole=240),
        Tiling(360, 288, 9, 36, slivers=True, whole=360),
    )
    assert plan.tiles_to_decode == (
        Tiling(30, 25, 40, 200, slivers=True, whole=30),
        Tiling(45, 36, 72, 288, slivers=True, whole=45),
    )


@pytest.mark.parametrize("frames", [9, 17, 25])
def test_a_clip_whose_end_is_not_known_gives_the_same(cog, frames):
    video = torch.rand(1, 3, frames, 16, 16) * 2 - 1
    known = cog.model.encode(video).mean
    moments = torch.cat(list(cog.model.encode_clip(iter(video.unbind(2)))), dim=2)
    assert torch.equal(moments[:, :16], known)


@pytest.mark.parametrize(("frames", "latents"), [(1, 1), (2, 3), (8, 3), (13, 5), (16, 5), (18, 7)])
def test_a_clip_whose_end_is_not_known_is_filled_with_its_last_frame(cog, frames, latents):
    video = torch.rand(1, 3, frames, 16, 16) * 2 - 1
    moments = torch.cat(list(cog.model.encode_clip(iter(video.unbind(2)))), dim=2)
    assert moments.shape[2] == latents
    padded = torch.cat([video, *[video[:, :, -1:]] * (-(frames - 1) % BATCH)], dim=2)
    assert torch.equal(moments[:, :16], cog.model.encode(padded).mean)


def test_a_clip_that_is_known_to_fit_is_left_as_it_is(cog):
    video = torch.rand(1, 3, 16, 16, 16) * 2 - 1
    moments = torch.cat(list(cog.model.encode_clip(iter(video.unbind(2)), known=16)), dim=2)
    assert moments.shape[2] == 4
    assert torch.equal(moments[:, :16], cog.model.encode(video).mean)
    assert cog.model.decode(moments[:, :16]).shape[2] == 16


def test_what_comes_later_changes_nothing(tiny):
    """Batches see the past alone: a clip's first latents and frames are those of its beginning."""
    video, state = torch.rand(1, 3, 25, 16, 16) * 2 - 1, TimeState(more=True)
    batches = [whole(tiny.encode(video[:, :, a:b], state)) for a, b in ((0, 9), (9, 17), (17, 25))]
    beginning = whole(tiny.encode(video[:, :, :9], TimeState()))
    assert torch.equal(batches[0], beginning)
    assert [batch.shape[2] for batch in batches] == [3, 2, 2]


def test_batches_remember_the_frames_before_them(tiny):
    video, state = torch.rand(1, 3, 17, 16, 16) * 2 - 1, TimeState(more=True)
    whole(tiny.encode(video[:, :, :9], state))
    carried = whole(tiny.encode(video[:, :, 9:], state))
    assert (carried - whole(tiny.encode(video[:, :, 9:], TimeState()))).abs().max() > 1e-3


def test_two_clips_may_interleave(tiny):
    latents = torch.randn(2, 1, 4, 5, 2, 2)
    states = [TimeState(more=True) for _ in latents]
    firsts = [whole(tiny.decode(x[:, :, :3], state)) for x, state in zip(latents, states, strict=True)]
    rests = [whole(tiny.decode(x[:, :, 3:], state)) for x, state in zip(latents, states, strict=True)]
    for x, first, rest in zip(latents, firsts, rests, strict=True):
        alone = TimeState(more=True)
        assert torch.equal(whole(tiny.decode(x[:, :, :3], alone)), first)
        assert torch.equal(whole(tiny.decode(x[:, :, 3:], alone)), rest)


def test_a_clip_that_breaks_off_leaves_nothing_behind(cog):
    video = torch.rand(1, 3, 25, 16, 16) * 2 - 1

    def broken():
        yield from video.unbind(2)[:20]
        raise OSError("the disk is gone")

    wanted = cog.model.encode(video).mean
    with pytest.raises(OSError, match="the disk is gone"):
        list(cog.model.encode_clip(broken()))
    assert torch.equal(cog.model.encode(video).mean, wanted)


def test_the_state_does_not_grow_with_the_clip(tiny):
    for apply, batch in (
        (tiny.encode, torch.rand(1, 3, 8, 16, 16)),
        (tiny.decode, torch.rand(1, 4, 2, 2, 2)),
    ):
        state, sizes = TimeState(more=True), []
        for _ in range(4):
            whole(apply(batch, state))
            sizes.append(state.nbytes)
        assert sizes[0] == sizes[1] == sizes[2] == sizes[3] > 0


@pytest.mark.parametrize("latents", [1, 2, 3, 4, 5])
@pytest.mark.parametrize("zoom", [1, 2, 4])
def test_guided_norms_are_those_of_latents_resized_to_the_frames(latents, zoom):
    """As the reference has it: nearest resizing, a first frame of an odd number apart, then convolutions."""
    torch.manual_seed(0)
    norm = GuidedNorm(8, groups=4, latents=3)
    for parameter in norm.requires_grad_(False).parameters():
        parameter.normal_()
    frames = 1 + (latents - 1) * zoom if latents % 2 else latents * zoom
    x, z = torch.randn(2, 8, frames, 2 * zoom, 3 * zoom), torch.randn(2, 3, latents, 2, 3)
    if frames > 1 and frames % 2:
        parts = [
            F.interpolate(z[:, :, :1], size=x[:, :, :1].shape[2:]),
            F.interpolate(z[:, :, 1:], size=x[:, :, 1:].shape[2:]),
        ]
    else:
        parts = [F.interpolate(z, size=x.shape[2:])]
    large = torch.cat(parts, dim=2)
    plain = F.group_norm(x, 4, norm.norm_layer.weight, norm.norm_layer.bias, eps=1e-6)
    wanted = F.silu(plain * norm.conv_y(large) + norm.conv_b(large))
    assert torch.allclose(norm.silu_into(x, torch.empty_like(x), z), wanted, atol=2e-5)


@pytest.mark.parametrize(
    ("frames", "fewer", "more"), [(1, 1, 1), (2, 1, 4), (3, 2, 5), (8, 4, 16), (9, 5, 17)]
)
def test_the_first_frame_of_an_odd_number_is_not_paired(frames, fewer, more):
    torch.manual_seed(0)
    down, up = (step(2, time=True).requires_grad_(False) for step in (Down, Up))
    x = torch.rand(1, 2, frames, 4, 6)
    assert down(x).shape == (1, 2, fewer, 2, 3)
    large = up(x)
    assert large.shape == (1, 2, more, 8, 12)
    if frames % 2:
        assert torch.allclose(down(x)[:, :, :1], down(x[:, :, :1]), atol=1e-6)
        assert torch.allclose(large[:, :, :1], up(x[:, :, :1]), atol=1e-6)
    assert torch.equal(large[:, :, frames % 2 :: 2], large[:, :, frames % 2 + 1 :: 2])


@pytest.mark.parametrize(
    ("config", "told"),
    [
        ({"use_quant_conv": True}, "use_quant_conv = True is not supported"),
        (
            {"temporal_compression_ratio": 8},
            "temporal_compression_ratio = 8 is not supported\nhint: supported: 4",
        ),
        ({"latents_mean": [0.0]}, "latents_mean"),
        ({"block_out_channels": [128, 256]}, "block_out_channels: expected 4 widths, got 2"),
    ],
)
def test_other_networks_of_the_class_are_refused(config, told):
    with pytest.raises(BadWeights, match=re.escape(told)):
        FAMILY.spec_of(config)


def test_latents_are_scaled_as_each_release_was_trained():
    assert {spec.name: (spec.scale, spec.shift) for spec in FAMILY.specs} == {
        "cogvideox-2b": ((1.15258426,), (0.0,)),
        "cogvideox-5b": ((0.7,), (0.0,)),
        "cogvideox-1.5": ((0.7,), (0.0,)),
    }


# The files of both layouts -------------------------------------------------------------------------------


def to_authors(key: str) -> str:
    """A key of diffusers' layout as the authors' code has it: the table turned round, by hand."""
    for pattern, name in (
        (r"up_blocks\.(\d)\.", lambda m: f"up.{3 - int(m[1])}."),
        (r"down_blocks\.(\d)\.", r"down.\1."),
        (r"mid_block\.resnets\.0\.", "mid.block_1."),
        (r"mid_block\.resnets\.1\.", "mid.block_2."),
        (r"resnets\.", "block."),
        (r"(down|up)samplers\.0\.", r"\1sample."),
        (r"conv_shortcut\.", "nin_shortcut."),
    ):
        key = re.sub(pattern, name, key)
    return key


@pytest.fixture(scope="module")
def published(tiny) -> dict[str, torch.Tensor]:
    """A small network under diffusers' names."""
    names = {"nin_shortcut.conv.": "conv_shortcut."}
    state = {}
    for key, value in tiny.state_dict().items():
        for ours, theirs in names.items():
            key = key.replace(ours, theirs)
        side = "down" if key.startswith("encoder") else "up"
        state[key.replace(".step.", f".{side}samplers.0.")] = value.contiguous()
    return state


@pytest.mark.parametrize("prefix", ["", "vae.", "first_stage_model."])
@pytest.mark.parametrize("whose", ["diffusers", "authors"])
def test_a_file_is_loaded_by_its_names_alone(tmp_path, tiny, published, whose, prefix):
    path = tmp_path / "vae.safetensors"
    rename = to_authors if whose == "authors" else str
    save_file({prefix + rename(key): value for key, value in published.items()}, path)
    spec = registry.resolve(path).spec
    assert (spec.family, spec.channels) == ("cogvideox_vae", 4)
    assert job.check(path)["layout"] == prefix + whose
    network, _ = load_network(FAMILY, spec, path)
    wanted = tiny.state_dict()
    assert all(torch.equal(value, wanted[key]) for key, value in network.state_dict().items())


@pytest.mark.parametrize("part", ["state_dict", "model", "module"])
def test_the_authors_checkpoint_is_loaded_without_its_loss(tmp_path, tiny, published, part):
    path = tmp_path / "3d-vae.pt"
    state = {to_authors(key): value for key, value in published.items()}
    torch.save({part: {**state, "loss.logvar": torch.zeros(())}}, path)
    network, _ = load_network(FAMILY, registry.resolve(path).spec, path)
    assert torch.equal(network.decoder.conv_in.conv.weight, tiny.decoder.conv_in.conv.weight)


def test_a_key_that_is_missing_and_one_too_many_are_quoted(tmp_path, published):
    state = {to_authors(key): value for key, value in published.items()}
    state["decoder.up.9.block.0.conv1.conv.weight"] = state.pop("decoder.conv_out.conv.bias")
    save_file(state, tmp_path / "vae.safetensors")
    told = r"missing 1 key \(decoder.conv_out.conv.bias\); not of this network 1 key \(decoder.up.9.block"
    with pytest.raises(BadWeights, match=told):
        load_network(
            FAMILY, registry.resolve(tmp_path / "vae.safetensors").spec, tmp_path / "vae.safetensors"
        )


@pytest.fixture(scope="module")
def full_size() -> dict[str, torch.Tensor]:
    with torch.device("meta"):
        return FAMILY.build(registry.find("cogvideox-2b")).state_dict()


def table(shared, name: str) -> list[dict[str, str]]:
    with (shared / f"spec/keys/cogvideox_{name}.tsv").open() as file:
        return list(csv.DictReader(file, delimiter="\t"))


@pytest.mark.parametrize(("name", "rename"), [("diffusers", from_diffusers), ("original", from_authors)])
def test_every_published_key_has_its_place(shared, full_size, name, rename):
    published = {rename(row["key"]): row["shape"] for row in table(shared, f"{name}_keys")}
    assert published == {key: "x".join(map(str, value.shape)) for key, value in full_size.items()}


def test_both_layouts_name_the_same_tensor_alike(shared):
    for row in table(shared, "rename"):
        assert from_authors(row["original"]) == from_diffusers(row["diffusers"])
        assert to_authors(row["diffusers"]) == row["original"]


def test_releases_that_no_shape_tells_apart_must_be_named(shared, monkeypatch, tmp_path):
    shapes = {row["key"]: tuple(map(int, row["shape"].split("x"))) for row in table(shared, "original_keys")}
    monkeypatch.setattr(registry, "shapes_in", lambda _: shapes)
    (path := tmp_path / "3d-vae.pt").touch()
    with pytest.raises(
        UsageError, match=r"fits cogvideox-2b and cogvideox-5b and cogvideox-1.5, whose latents"
    ):
        registry.resolve(path)
    assert registry.resolve_weights("cogvideox-5b", path).spec.scale == (0.7,)

"""Wan's VAEs against both references, and against themselves: streamed in chunks, they are the whole clip."""

import csv
import random
from functools import partial
from pathlib import Path

import pytest
import torch
from helpers import cases
from helpers.sampled import some
from helpers.streams import assert_same, chunked, streamed
from safetensors.torch import load_file

import vidlatent
from vidlatent.errors import BadWeights
from vidlatent.models import registry, wan_config
from vidlatent.models.causal import TimeState, whole
from vidlatent.models.recognise import recognise
from vidlatent.models.wan_vae import FAMILY, folded, unfolded
from vidlatent.windows import Tiling

one_thread = cases.one_thread

CASES = ["wan21", "wan21_authors", "wan22", "wan22_authors"]
TILED = ["wan21_tiled", "wan22_tiled"]
TABLES = [  # the model, the names of its tensors in the authors' files, and in diffusers'
    ("wan-2.1", "wan21_original_keys.tsv"),
    ("wan-2.1", "wan21_diffusers_keys.tsv"),
    ("qwen-image", "wan21_diffusers_keys.tsv"),
    ("wan-2.2-5b", "wan22_original_keys.tsv"),
    ("wan-2.2-5b", "wan22_diffusers_keys.tsv"),
]
TINY = {
    "2.1": {"base_dim": 4, "z_dim": 2},
    "2.2": {**wan_config.WAN22, "base_dim": 4, "decoder_base_dim": 4, "z_dim": 2},
}


@pytest.fixture(scope="module", params=CASES)
def case(request, tmp_path_factory):
    return cases.compact(request.param, tmp_path_factory.mktemp(request.param))


@pytest.fixture(scope="module", params=TILED)
def tiled(request, tmp_path_factory):
    return cases.compact(request.param, tmp_path_factory.mktemp(request.param))


@pytest.fixture(scope="module", params=["2.1", "2.2"])
def tiny(request):
    torch.manual_seed(0)
    return FAMILY.build(FAMILY.spec_of(TINY[request.param])).eval().requires_grad_(False)


def spec(name: str):
    return next(spec for spec in FAMILY.specs if spec.name == name)


def table(path: Path) -> dict[str, tuple[int, ...]]:
    """The names and shapes in a table of them."""
    with path.open() as file:
        rows = list(csv.DictReader(file, delimiter="\t"))
    return {row["key"]: tuple(map(int, row["shape"].split("x"))) for row in rows}


def test_every_golden_run_in_one_call(case):
    for run in case.facts["runs"]:
        cases.assert_close(cases.bare_encode(case.model, case.video(run)), case.wanted[run["moments"]])
        if run["decoded"]:
            cases.assert_close(cases.bare_decode(case.model, case.mean(run)), case.wanted[run["decoded"]])


@pytest.mark.parametrize(("window", "latent_window"), [(5, 2), (13, 4), (None, None), (0, 0)])
def test_every_golden_run_on_the_grid_through_the_engine(case, window, latent_window):
    plan, space = case.model.plan(window, latent_window), case.model.spec.grid.space
    for run in case.facts["runs"]:
        video = case.video(run)
        if video.shape[3] % space or video.shape[4] % space:
            continue  # the engine pads
        moments = torch.cat(list(case.model.encode_stream(video.unbind(2), plan)), dim=2)
        cases.assert_close(moments, case.wanted[run["moments"]])
        if run["decoded"]:
            cases.assert_close(case.model.decode(case.mean(run), plan), case.wanted[run["decoded"]])


@pytest.mark.parametrize(("window", "latent_window"), [(None, None), (0, 0)])
def test_every_golden_run_in_tiles(tiled, window, latent_window):
    for run in tiled.facts["runs"]:
        size, step = (run["tiling"][f"tile_sample_{key}_height"] for key in ("min", "stride"))
        plan = tiled.model.plan(window, latent_window, tile=size, overlap=1 - step / size)
        moments = torch.cat(list(tiled.model.encode_stream(tiled.video(run).unbind(2), plan)), dim=2)
        cases.assert_close(moments, tiled.wanted[run["moments"]])
        cases.assert_close(tiled.model.decode(tiled.mean(run), plan), tiled.wanted[run["decoded"]])


def test_tiles_are_those_of_diffusers():
    """Wan 2.2 counts pixels of the folded picture in encode, and blends before it unfolds in decode."""
    assert spec("wan-2.1").tiles(256, 0.25) == (
        Tiling(256, 192, blend=8, keep=24, slivers=True, whole=256),
        Tiling(32, 24, blend=64, keep=192, slivers=True, whole=32),
    )
    assert spec("wan-2.2-5b").tiles(256, 0.25) == (
        Tiling(512, 384, blend=8, keep=24, slivers=True, whole=256),
        Tiling(16, 12, blend=64, keep=192, slivers=True, whole=16, grain=2),
    )


SOME = some(range(6, 25), 1, 1, 2, 5)  # what a state holds no longer changes after a few latents
LENGTHS = pytest.mark.parametrize(
    "lengths",
    [pytest.param(SOME, id=str(SOME)), pytest.param(range(1, 61), id="all", marks=pytest.mark.slow)],
)


@LENGTHS
def test_encoding_in_chunks_is_the_whole_clip(tiny, lengths):
    video = torch.rand(1, 3, 60, 16, 32) * 2 - 1
    for frames in lengths:
        dice, clip = random.Random(frames), video[:, :, :frames]
        undivided = whole(tiny.encode(clip, TimeState()))
        assert undivided.shape[2] == 1 + (frames - 1) // 4
        for most in (3, 4, 16):  # the chunks need not fit the grid
            chunks = chunked(frames, dice.randint(1, most), partial(dice.randint, 1, most))
            assert_same(streamed(tiny.encode, clip, chunks), undivided)


@LENGTHS
def test_decoding_in_chunks_is_the_whole_clip(tiny, lengths):
    latents = torch.randn(1, 2, 60, 1, 2)
    for length in lengths:
        dice, clip = random.Random(length), latents[:, :, :length]
        undivided = whole(tiny.decode(clip, TimeState()))
        assert undivided.shape[2] == 4 * length - 3
        for most in (1, 2, 9):
            chunks = chunked(length, dice.randint(1, most), partial(dice.randint, 1, most))
            assert_same(streamed(tiny.decode, clip, chunks), undivided)


def test_large_clips_go_through_in_parts_to_the_same_end(tiny, monkeypatch):
    clip, latents = torch.rand(1, 3, 22, 16, 32) * 2 - 1, torch.randn(1, 2, 6, 1, 2)
    moments, pixels = whole(tiny.encode(clip, TimeState())), whole(tiny.decode(latents, TimeState()))
    monkeypatch.setattr("vidlatent.models.streaming.PART_BYTES", 1)
    monkeypatch.setattr("vidlatent.models.bands.BAND_BYTES", 1)
    assert_same(streamed(tiny.encode, clip, [(0, 22)]), moments)
    assert_same(streamed(tiny.encode, clip, [(0, 6), (6, 7), (7, 22)]), moments)
    assert_same(streamed(tiny.decode, latents, [(0, 6)]), pixels)
    assert_same(streamed(tiny.decode, latents, [(0, 1), (1, 3), (3, 6)]), pixels)
    pieces = [piece.shape[2] for piece in tiny.decode(latents, TimeState())]
    assert max(pieces) == 1 and sum(pieces) == 21


def test_frames_that_fill_no_latent_are_never_looked_at(tiny):
    clip = torch.rand(1, 3, 12, 16, 16)
    whole9, whole12 = (whole(tiny.encode(clip[:, :, :n], TimeState())) for n in (9, 12))
    assert torch.equal(whole9, whole12)


def test_a_first_frame_alone_is_the_same_as_in_a_clip(tiny):
    clip, latents = torch.rand(1, 3, 9, 16, 16), torch.randn(1, 2, 3, 1, 1)
    assert_same(
        whole(tiny.encode(clip[:, :, :1], TimeState())), whole(tiny.encode(clip, TimeState()))[:, :, :1]
    )
    pixels = whole(tiny.decode(latents, TimeState()))
    assert_same(whole(tiny.decode(latents[:, :, :1], TimeState())), pixels[:, :, :1])


def test_nothing_in_is_nothing_out_in_mid_clip(tiny):
    latents = torch.randn(1, 2, 4, 1, 2)
    undivided = whole(tiny.decode(latents, TimeState()))
    assert_same(streamed(tiny.decode, latents, [(0, 0), (0, 2), (2, 2), (2, 4), (4, 4)]), undivided)
    clip = torch.rand(1, 3, 9, 16, 32)
    undivided = whole(tiny.encode(clip, TimeState()))
    assert_same(streamed(tiny.encode, clip, [(0, 0), (0, 2), (2, 2), (2, 9), (9, 9)]), undivided)


def test_two_clips_may_interleave_and_one_may_break_off(tiny):
    clips = [torch.rand(1, 3, 9, 16, 16) for _ in range(3)]
    states = [TimeState(more=True) for _ in clips]
    firsts = [whole(tiny.encode(clip[:, :, :3], state)) for clip, state in zip(clips, states, strict=True)]
    with pytest.raises(RuntimeError):
        whole(tiny.encode(clips.pop()[:, :1, 3:], states.pop()))
    for clip, state, first in zip(clips, states, firsts, strict=False):
        state.more = False
        rest = whole(tiny.encode(clip[:, :, 3:], state))
        assert_same(torch.cat([first, rest], dim=2), whole(tiny.encode(clip, TimeState())))


@pytest.mark.parametrize(("verb", "shape"), [("encode", (1, 3, 4, 16, 32)), ("decode", (1, 2, 1, 1, 2))])
def test_the_state_does_not_grow_with_the_clip(tiny, verb, shape):
    state, sizes = TimeState(more=True), []
    for _ in range(5):
        whole(getattr(tiny, verb)(torch.rand(shape), state))
        sizes.append(state.nbytes)
    assert sizes[1] == sizes[2] == sizes[3] == sizes[4] > 0


def test_folding_pixels_puts_columns_before_rows_and_comes_back():
    video = torch.arange(2 * 3 * 2 * 4 * 4).view(2, 3, 2, 4, 4)
    assert folded(video, 2)[0, :4, 0, 0, 0].tolist() == [0, 4, 1, 5]
    assert torch.equal(unfolded(folded(video, 2), 2), video)


@pytest.mark.parametrize(("name", "keys"), TABLES)
def test_every_published_key_has_its_place(shared, name, keys):
    with torch.device("meta"):
        wanted = {key: tuple(x.shape) for key, x in FAMILY.build(spec(name)).state_dict().items()}
    published = {FAMILY.rename(key): shape for key, shape in table(shared / "spec/keys" / keys).items()}
    assert published.keys() == wanted.keys()
    for key, shape in published.items():
        assert shape == wanted[key] + (1,) * (len(shape) - len(wanted[key]))  # gains and matrices come so


@pytest.mark.parametrize(("name", "keys"), TABLES)
def test_the_shapes_of_a_file_tell_its_config(shared, name, keys):
    told = FAMILY.spec_of(wan_config.config_of(table(shared / "spec/keys" / keys)))
    published = spec(name)
    assert (told.grid, told.channels, told.scale, told.shift, told.plan) == (
        (published.grid, published.channels, published.scale, published.shift, published.plan)
    )
    config, wanted = wan_config.WanConfig.of(told.config), wan_config.WanConfig.of(published.config)
    assert list(config.encoder_stages()) == list(wanted.encoder_stages())
    assert list(config.decoder_stages()) == list(wanted.decoder_stages())


def test_published_models_have_their_size():
    """Parameters as the papers' networks have them, counted in the authors' code."""
    counts = {"wan-2.1": 126_892_531, "wan-2.2-5b": 704_688_668, "qwen-image": 126_892_531}
    for name, count in counts.items():
        with torch.device("meta"):
            network = FAMILY.build(spec(name))
        assert sum(p.numel() for p in network.parameters()) == count


def test_latents_for_a_diffusion_model_are_normalised_per_channel():
    wan = spec("wan-2.1")
    assert (wan.shift[0], wan.scale[0]) == (-0.7571, 1 / 2.8184)
    assert len(wan.shift) == len(wan.scale) == 16
    other = FAMILY.spec_of({"z_dim": 2, "latents_mean": [1, 2], "latents_std": [2, 4]})
    assert (other.shift, other.scale) == ((1, 2), (0.5, 0.25))
    assert FAMILY.spec_of({"z_dim": 2}).scale == (1.0,)


@pytest.mark.parametrize(
    ("flags", "complaint"),
    [
        ({"attn_scales": [0.5]}, r"attn_scales \(0.5,\) is not supported"),
        ({"num_res_blocks": 0}, "num_res_blocks 0 is not supported"),
        ({"_class_name": "AutoencoderKLQwenImage", "input_channels": 4}, "in_channels 4 is not supported"),
        ({"dim_mult": [1, 2, 4]}, "length of temperal_downsample 3 is not supported\nhint: supported: 2"),
        ({"latents_mean": [0.0]}, "length of latents_mean 1"),
    ],
)
def test_configs_of_other_networks_are_refused(flags, complaint):
    with pytest.raises(BadWeights, match=complaint):
        FAMILY.spec_of({**wan_config.WAN21, **flags})


@pytest.mark.parametrize("prefix", ["", "model.", "vae."])
def test_a_bare_file_of_either_layout_loads_by_its_names_and_shapes(case, tmp_path, prefix):
    state = load_file(case.folder / "diffusion_pytorch_model.safetensors")
    torch.save({prefix + key: value for key, value in state.items()}, tmp_path / "vae.pth")
    model = vidlatent.load_model(tmp_path / "vae.pth", device="cpu")
    run = case.facts["runs"][0]
    cases.assert_close(cases.bare_encode(model, case.video(run)), case.wanted[run["moments"]])
    cases.assert_close(cases.bare_decode(model, case.mean(run)), case.wanted[run["decoded"]])


@pytest.mark.parametrize("is_residual", [False, True])
def test_a_bare_file_tells_how_many_blocks_its_stages_have(is_residual):
    """Where they are numbered through with the samplers, all names depend on that."""
    diffusers = pytest.importorskip("diffusers", reason="diffusers is not installed")
    config = {**TINY["2.2" if is_residual else "2.1"], "z_dim": 16, "num_res_blocks": 3}
    with torch.device("meta"):
        theirs = diffusers.AutoencoderKLWan(**config).state_dict()
    found = recognise([FAMILY], {key: tuple(x.shape) for key, x in theirs.items()}, Path("vae.pth"))
    network = wan_config.WanConfig.of(found.described.config)
    assert (network.num_res_blocks, network.is_residual) == (3, is_residual)
    with torch.device("meta"):
        ours = FAMILY.build(found.described).state_dict()
    assert ours.keys() == {found.layout.renamer(theirs)(key) for key in theirs}


@pytest.mark.parametrize(("name", "keys"), TABLES)
def test_a_published_file_is_told_by_its_names_and_shapes(shared, name, keys):
    """Qwen-Image's network and latents are those of Wan 2.1: whichever it is called, it is that."""
    shapes = table(shared / "spec/keys" / keys)
    found = recognise(registry.families(), shapes, Path("vae.pth"))
    assert spec(name) in found.specs
    assert found.layout.name == ("authors" if "original" in keys else "diffusers")
    assert found.one(Path("vae.pth")).name == name.replace("qwen-image", "wan-2.1")


def test_a_file_under_the_name_of_the_other_model_says_what_it_is(shared, monkeypatch, tmp_path):
    shapes = table(shared / "spec/keys/wan22_original_keys.tsv")
    monkeypatch.setattr(registry, "shapes_in", lambda path: shapes)
    path = tmp_path / "Wan2.2_VAE.pth"
    path.touch()
    with pytest.raises(BadWeights, match=r"Wan2.2_VAE.pth: holds wan-2.2-5b, not wan-2.1"):
        registry.resolve_weights("wan-2.1", path)


def test_a_missing_key_is_quoted(case, tmp_path):
    state = load_file(case.folder / "diffusion_pytorch_model.safetensors")
    key = next(key for key in state if FAMILY.rename(key) == "quant_conv.conv.bias")
    state["quant.bias"] = state.pop(key)
    cases.publish(case.config, state, tmp_path)
    complaint = r"missing 1 key \(quant_conv.conv.bias\); not of this network 1 key \(quant.bias\)"
    with pytest.raises(BadWeights, match=complaint):
        vidlatent.load_model(tmp_path, device="cpu")

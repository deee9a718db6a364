"""VAEs that run through diffusers: no frame lost, chunks give the class's own numbers, nothing left behind.

The references are the classes as they come, called whole, on small networks of random weights.
"""

import json
import sys
from dataclasses import replace
from functools import cache
from pathlib import Path

import pytest
import torch
from helpers import cases, warm
from helpers.command_line import run_here
from helpers.video_clips import Recipe, make
from safetensors.torch import save_file
from torch import Tensor, nn

import vidlatent
from vidlatent.engine.demand import Workload, demand
from vidlatent.engine.memory import settle
from vidlatent.engine.model import Model
from vidlatent.errors import BadInput, BadWeights, OutOfResources, UsageError
from vidlatent.jobs.models import describe_time_rule
from vidlatent.models import registry
from vidlatent.models.causal import TimeState, whole
from vidlatent.models.diffusers import check, magvit, table

diffusers = pytest.importorskip("diffusers", reason="diffusers is not installed")
one_thread = cases.one_thread

TREE = {"block_out_channels": [8, 8, 8, 8], "norm_num_groups": 4, "layers_per_block": 1}
VIDTOK = {"ch": 8, "ch_mult": [1, 2, 2, 2], "num_res_blocks": 1}
MOCHI = {"encoder_block_out_channels": [32] * 4, "decoder_block_out_channels": [32] * 4}
COSMOS = {"encoder_block_out_channels": [8] * 4, "decode_block_out_channels": [8] * 4, "num_layers": 1}
H3 = {
    **{"block_out_channels": [8] * 6, "norm_num_groups": 4, "layers_per_block": 1, "latent_channels": 4},
    **{"latents_mean": [0.5, 0.0, 0.0, 0.0], "latents_std": [1.0, 2.0, 3.0, 4.0]},
    **{"decoder_num_layers": 2, "decoder_num_attention_heads": 2, "decoder_attention_head_dim": 16},
}
CONFIGS = {
    "magvit": ("AutoencoderKLMagvit", TREE),
    "kvae": ("AutoencoderKLKVAEVideo", {"ch": 32, "ch_mult": [1, 1, 1, 1], "num_res_blocks": 1}),
    "vidtok": ("AutoencoderVidTok", VIDTOK),
    "vidtok, 8 frames": ("AutoencoderVidTok", {**VIDTOK, "tempo_ds": [2, 1, 0], "tempo_us": [1, 2, 3]}),
    "mochi": ("AutoencoderKLMochi", {**MOCHI, "layers_per_block": [1] * 5}),
    "cosmos": ("AutoencoderKLCosmos", COSMOS),
    "svd": (
        "AutoencoderKLTemporalDecoder",
        {**{"block_out_channels": [32] * 4, "down_block_types": ["DownEncoderBlock2D"] * 4}},
    ),
    "allegro": ("AutoencoderKLAllegro", TREE),
    "minimax-h3": ("AutoencoderKLMiniMaxH3", H3),
}
SIDE = {"minimax-h3": 32}
STREAMING = [name for name in CONFIGS if name not in ("mochi", "cosmos")]  # both ways, that is
SAMPLE = (1, 6, 25)  # frames
CLOSE = 1e-4  # of the largest difference, over the deviation: measured at up to 2e-5
TILES_CLOSE = 1e-3  # root mean square; in float64 tiles agree to 1e-7
IMAGENET = ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))


@cache
def their_class(name: str) -> nn.Module:
    """The class as it comes, every weight of it random; made once."""
    kind, config = CONFIGS[name]
    torch.manual_seed(0)
    vae = getattr(diffusers, kind)(**config).eval().requires_grad_(False)
    for parameter in vae.parameters():
        parameter += 0.05 * torch.randn_like(parameter)
    return vae


def publish(name: str, folder: Path, **more: object) -> Path:
    """A folder of the class's weights, as diffusers publishes them."""
    kind, config = CONFIGS[name]
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "config.json").write_text(json.dumps({"_class_name": kind, **config, **more}))
    save_file(their_class(name).state_dict(), folder / "diffusion_pytorch_model.safetensors")
    return folder


@pytest.fixture(scope="module")
def loaded(tmp_path_factory):
    """Loads each model once."""
    found: dict[str, Model] = {}

    def load(name: str) -> Model:
        if name not in found:
            folder = publish(name, tmp_path_factory.mktemp("models") / name)
            found[name] = vidlatent.load_model(folder, device="cpu")
        return found[name]

    return load


def clip(name: str, frames: int, seed: int = 1) -> Tensor:
    side, generator = SIDE.get(name, 16), torch.Generator().manual_seed(seed)
    return torch.rand(1, 3, frames, side, side + SIDE.get(name, 8), generator=generator) * 2 - 1


def imagenet() -> tuple[Tensor, Tensor]:
    return tuple(torch.tensor(values).view(1, 3, 1, 1, 1) for values in IMAGENET)


def their_latents(name: str, vae: nn.Module, video: Tensor) -> Tensor:
    """What the class makes of a whole clip of a legal length, as its users call it."""
    if name.startswith("vidtok"):
        first = [video[:, :, :1]] * (vae.temporal_compression_ratio - 1)
        return vae.encode(torch.cat([*first, video], dim=2)).latent_dist.mode()
    if name == "svd":
        return torch.stack([vae.encode(frame).latent_dist.mode() for frame in video.unbind(2)], dim=2)
    if name == "allegro":
        one_tile(vae, *video.shape[-2:])
    if name == "minimax-h3":
        mean, std = imagenet()
        video = ((video + 1) / 2 - mean) / std
    return vae.encode(video).latent_dist.mode()


def their_pixels(name: str, vae: nn.Module, latents: Tensor) -> Tensor:
    """What the class makes of all latents of a clip."""
    if name.startswith("vidtok"):
        vae.enable_tiling(512, 512)
        return vae.decode(latents)
    if name == "svd":
        parts = [z.transpose(1, 2)[0] for z in latents.split(14, dim=2)]
        return torch.cat([vae.decode(z, num_frames=len(z)).sample for z in parts]).transpose(0, 1)[None]
    if name == "allegro":
        one_tile(vae, *(8 * side for side in latents.shape[-2:]))
        return vae.decode(latents).sample.transpose(1, 2)
    if name == "minimax-h3":
        mean, std = imagenet()
        return (vae.decode(latents).sample * std + mean) * 2 - 1
    return vae.decode(latents).sample


def one_tile(vae: nn.Module, height: int, width: int) -> None:
    """Allegro's class does nothing without tiles."""
    vae.use_tiling, vae.kernel, vae.stride = True, (24, height, width), (16, height, width)


def padded(video: Tensor, frames: int) -> Tensor:
    return torch.cat([video] + [video[:, :, -1:]] * frames, dim=2)


def assert_same(got: Tensor, wanted: Tensor) -> None:
    assert got.shape == wanted.shape
    assert (got - wanted).abs().max() <= CLOSE * wanted.std()


def check_length(name: str, model: Model, theirs: nn.Module, frames: int) -> None:
    video, grid = clip(name, frames), model.spec.grid
    full = padded(video, grid.missing_frames(frames))
    latents = model.encode(video).mean
    assert_same(latents, their_latents(name, theirs, full))
    back = model.decode(latents)
    assert back.shape == full.shape
    assert_same(back, their_pixels(name, theirs, latents))


@pytest.mark.parametrize("frames", SAMPLE)
@pytest.mark.parametrize("name", CONFIGS)
def test_no_frame_is_lost_and_all_are_those_of_the_class(loaded, name, frames):
    check_length(name, loaded(name), their_class(name), frames)


@pytest.mark.slow
@pytest.mark.parametrize("name", CONFIGS)
def test_no_frame_is_lost_at_any_length(loaded, name):
    theirs = their_class(name)
    for frames in range(1, 41):
        check_length(name, loaded(name), theirs, frames)


def in_chunks(apply, x: Tensor, sizes: list[int], state: TimeState | None = None) -> Tensor:
    """A clip in chunks of these sizes, in turn, as often as it takes."""
    state, parts, done = state or TimeState(), [], 0
    while done < x.shape[2]:
        size = sizes[0]
        sizes = [*sizes[1:], size]
        state.more = done + size < x.shape[2]
        with torch.inference_mode():
            parts += apply(x[:, :, done : done + size], state)
        done += size
    return whole(parts)


@pytest.mark.parametrize("sizes", [[1], [3, 1, 20]], ids=str)
@pytest.mark.parametrize("name", STREAMING)
def test_chunks_of_any_size_give_the_same(loaded, name, sizes):
    model = loaded(name)
    video = padded(clip(name, 34), model.spec.grid.missing_frames(34))
    latents = model.encode(video).mean
    assert_same(in_chunks(model.network.encode, video, list(sizes)).chunk(2, dim=1)[0], latents)
    assert_same(in_chunks(model.network.decode, latents, list(sizes)), model.decode(latents))


def test_mochi_decodes_in_chunks_of_any_size(loaded):
    model = loaded("mochi")
    latents = torch.randn(1, 12, 6, 2, 3)
    for sizes in ([1], [2, 1]):
        assert_same(in_chunks(model.network.decode, latents, sizes), model.decode(latents))


def kept(apply, x: Tensor, times: int) -> int:
    """Bytes that are kept between calls after so many."""
    state = TimeState(more=True)
    with torch.inference_mode():
        for _ in range(times):
            for piece in apply(x, state):
                del piece
    return state.nbytes


@pytest.mark.parametrize("name", STREAMING)
def test_memory_does_not_grow_with_the_clip(loaded, name):
    model = loaded(name)
    frames = {"minimax-h3": 17}.get(name, 16)
    latents = torch.randn(1, model.spec.channels, model.spec.grid.latents(frames) + 1, 2, 2)
    latents = latents[
        :, :, : {"minimax-h3": 5, "svd": 14, "allegro": 4}.get(name, 16 // model.spec.grid.time)
    ]
    video = clip(name, frames)
    assert 0 <= kept(model.network.encode, video, 9) <= kept(model.network.encode, video, 3)
    assert 0 < kept(model.network.decode, latents, 9) + 1 <= kept(model.network.decode, latents, 3) + 1


class Broken(RuntimeError):
    pass


@pytest.mark.parametrize("name", CONFIGS)
def test_an_error_in_mid_clip_leaves_the_next_clip_right(loaded, name):
    model, calls = loaded(name), []
    video = clip(name, 41)
    latents = model.encode(video).mean
    pixels = model.decode(latents)

    def breaks(*_):
        calls.append(1)
        if len(calls) == 2:
            raise Broken

    vae = model.network.vae
    for part, run in (
        (vae.encoder, lambda: model.encode(video)),
        (vae.decoder, lambda: model.decode(latents)),
    ):
        calls.clear()
        last = [layer for layer in part.modules() if isinstance(layer, nn.Conv3d | nn.Conv2d | nn.Linear)][-1]
        hook = last.register_forward_hook(breaks)
        try:
            run()  # networks that take the whole clip run their last layer once
        except Broken:
            assert len(calls) == 2
        finally:
            hook.remove()
        assert calls
    assert torch.equal(model.encode(video).mean, latents)
    assert torch.equal(model.decode(latents), pixels)


@pytest.mark.parametrize("name", ["magvit", "kvae", "vidtok", "allegro", "minimax-h3"])
def test_two_clips_may_go_through_in_turns(loaded, name):
    model = loaded(name)
    videos = [padded(clip(name, 34, seed), model.spec.grid.missing_frames(34)) for seed in (1, 2)]
    states, parts = (TimeState(), TimeState()), ([], [])
    for start in range(0, videos[0].shape[2], 5):
        for video, state, part in zip(videos, states, parts, strict=True):
            state.more = start + 5 < video.shape[2]
            with torch.inference_mode():
                part += model.network.encode(video[:, :, start : start + 5], state)
    for video, part in zip(videos, parts, strict=True):
        assert_same(whole(part).chunk(2, dim=1)[0], model.encode(video).mean)


@pytest.mark.slow
@pytest.mark.parametrize("name", CONFIGS)
def test_memory_is_foreseen(loaded, name):
    """Models that are not exact must say before they run what they will take."""
    model = loaded(name)
    for encode in (True, False):
        few, many = (
            demand(model, model.spec.plan, Workload(64, side, 41, encode)).by_window for side in (64, 128)
        )
        assert 0 < few < many


def test_the_constants_of_cosmos_do_not_hinder_that(loaded):
    model = loaded("cosmos")
    assert demand(model, model.spec.plan, Workload(16, 16, 9)).by_window > 0


CLAIMS = {
    "magvit": ("exact", True),
    "kvae": ("batches 16 / 4", False),
    "vidtok": ("batches 16 / 4", False),
    "mochi": ("windows whole / exact", False),
    "cosmos": ("windows whole / whole", False),
    "svd": ("exact / batches 14", False),
    "allegro": ("batches 16 / 4", False),
    "minimax-h3": ("batches 17 / 5", False),
}


@pytest.mark.parametrize("name", CLAIMS)
def test_exact_is_said_of_what_is(loaded, name):
    spec = loaded(name).spec
    assert (describe_time_rule(spec), spec.exact) == CLAIMS[name]


def test_scales_are_those_of_the_config(loaded):
    assert (loaded("magvit").spec.scale, loaded("magvit").spec.shift) == ((0.7125,), (0.0,))
    spec = loaded("minimax-h3").spec
    assert (spec.scale, spec.shift) == ((1.0, 0.5, 1 / 3, 0.25), (0.5, 0.0, 0.0, 0.0))
    assert registry.find("minimax-h3").shift[0] == 0.858090341091156
    assert loaded("cosmos").spec.scale == (1.0,)  # those of its config differ from frame to frame


def test_a_clip_of_mochi_that_does_not_fit_is_refused_with_the_way_out(loaded):
    model, work = loaded("mochi"), Workload(16, 16, 13)
    with pytest.raises(OutOfResources, match=r"needs about .*\nhint: window N cuts the clip, and approx"):
        settle(model, model.spec.plan, work, limit=1)


def test_a_window_of_mochi_approximates(loaded):
    model = loaded("mochi")
    video = clip("mochi", 73)
    rough, fine = model.encode(video, model.plan(window=37)).mean, model.encode(video).mean
    assert rough.shape == fine.shape
    assert not torch.allclose(rough, fine, atol=1e-3)
    assert_same(rough[:, :, :7], fine[:, :, :7])  # the first window is the beginning of the clip


@pytest.mark.slow
def test_tiles_of_allegro_are_those_of_its_class(loaded):
    model, theirs = loaded("allegro"), their_class("allegro")
    theirs.enable_tiling()
    video = torch.rand(1, 3, 24, 520, 320, generator=torch.Generator().manual_seed(1)) * 2 - 1
    latents = model.encode(video).mean
    assert relative_error(latents, theirs.encode(video).latent_dist.mode()) < TILES_CLOSE
    assert relative_error(model.decode(latents), theirs.decode(latents).sample.transpose(1, 2)) < TILES_CLOSE


def relative_error(got: Tensor, wanted: Tensor) -> float:
    assert got.shape == wanted.shape
    return float((got - wanted).norm() / wanted.norm())


def test_frames_decoded_together_are_chosen_and_recorded(loaded):
    model = loaded("svd")
    latents = torch.randn(1, 4, 9, 2, 2)
    four = model.choose(chunk=4)
    assert four.spec.changed() == {"chunk": 4}
    first, whole_clip = four.decode(latents[:, :, :4]), four.decode(latents)
    assert_same(whole_clip[:, :, :4], first)
    assert not torch.allclose(whole_clip, model.decode(latents), atol=1e-3)


def test_tiles_of_minimax_are_a_setting_of_the_latents(loaded):
    model = loaded("minimax-h3")
    video = torch.rand(1, 3, 22, 32, 272) * 2 - 1
    tiled, flat = model.encode(video).mean, model.choose(tiles=False).encode(video).mean
    assert tiled.shape == flat.shape == (1, 4, 7, 2, 17)
    assert not torch.allclose(tiled, flat)
    assert model.choose(tiles=False).spec.changed(latents=True) == {"tiles": False}


@pytest.mark.parametrize(("name", "latents"), [("allegro", 6), ("minimax-h3", 7)])
def test_files_hold_clips_of_lengths_by_rules_of_their_own(loaded, tmp_path, name, latents):
    model = loaded(name)
    source = make(tmp_path / "clip.mkv", Recipe(codec="ffv1", size=(32, 32), stamps=tuple(range(0, 280, 40))))
    vidlatent.encode(source, tmp_path / "clip.latent", model)
    with vidlatent.open_latent(tmp_path / "clip.latent") as file:
        assert (file.frames, file.header.grid, file.header.exactness) == (
            latents,
            model.spec.grid,
            "reference-windows",
        )
        assert file.header.pad.frames == model.spec.grid.least - 7
    done = vidlatent.decode(tmp_path / "clip.latent", f"{tmp_path}/back/", model)
    assert done.frames == len(list((tmp_path / "back").glob("*.png"))) == 7


def test_easyanimate_with_fewer_levels_in_time_loses_no_frame():
    """It takes frames by four. Where time is halved once, the last two of seven are a latent all the same."""
    kinds = ["Spatial{}Block3D", "SpatialTemporal{}Block3D", "SpatialTemporal{}Block3D"]
    levels = {f"{way.lower()}_block_types": [kind.format(way) for kind in kinds] for way in ("Down", "Up")}
    config = {"_class_name": "AutoencoderKLMagvit", **TREE, **levels, "block_out_channels": [8] * 3}
    found = check.examine(config)
    assert found.lossless and found.equal


# What cannot be done right is refused.


@pytest.mark.parametrize(
    ("name", "config", "message"),
    [
        ("vidtok", {"regularizer": "fsq"}, "regularizer = 'fsq' is not supported\nhint: .*'kl'"),
        ("vidtok", {"is_causal": False}, "is_causal = False is not supported"),
        ("allegro", {"sample_size": 256}, "sample_size = 256 is not supported"),
        ("magvit", {"block_out_channels": "many"}, "diffusers cannot build it"),
        ("kvae", {"temporal_compress_times": 0}, "config of AutoencoderKLKVAEVideo is broken"),
    ],
)
def test_other_kinds_are_refused(tmp_path, name, config, message):
    folder = publish(name, tmp_path)
    said = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**said, **config}))
    with pytest.raises(BadWeights, match=message):
        vidlatent.load_model(folder, device="cpu")


def test_classes_that_no_row_is_of_are_refused(tmp_path):
    (tmp_path / "config.json").write_text('{"_class_name": "AutoencoderOobleck"}')
    with pytest.raises(BadWeights, match=r"'AutoencoderOobleck', unknown here\nhint: .*AutoencoderKLMochi"):
        registry.spec_from(tmp_path / "config.json")


def test_minimax_does_not_run_in_half_precision(tmp_path):
    folder = publish("minimax-h3", tmp_path)
    with pytest.raises(UsageError, match=r"runs in fp32 alone.*\nhint: use dtype fp32"):
        vidlatent.load_model(folder, device="cpu", dtype="bf16")


@pytest.mark.parametrize(
    ("name", "latents", "message"),
    [
        ("kvae", 6, "the last one would lose 3 of its frames"),
        ("allegro", 7, r"cannot end a clip here.*\nhint: give 24 \+ 16·k frames, or 6 \+ 4·k latents"),
        ("allegro", 3, "cannot end a clip here"),
        ("minimax-h3", 8, r"\nhint: give 22 \+ 17·k frames, or 7 \+ 5·k latents"),
        ("minimax-h3", 1, "cannot end a clip here"),
    ],
)
def test_latents_of_a_length_that_loses_frames_are_refused(loaded, name, latents, message):
    model = loaded(name)
    with pytest.raises(BadInput, match=message):
        model.decode(torch.randn(1, model.spec.channels, latents, 2, 2))


def test_windows_are_refused_where_the_class_has_its_own(loaded):
    with pytest.raises(UsageError, match=r"window 33: this model is cut in time as its authors cut it"):
        loaded("allegro").plan(window=33)


# The test at load.


@pytest.fixture
def another_row(monkeypatch):
    """Changes the row of Magvit's class, as if diffusers had changed."""

    def change(**facts):
        row = replace(magvit.ROW, **facts)
        monkeypatch.setitem(table.ROWS, "AutoencoderKLMagvit", row)
        monkeypatch.setattr(check, "_examine", check._examine.__wrapped__)

    return change


def forgetful(network, video, state):
    state.more = False
    yield from magvit.ROW.encode(network, video, TimeState())


def test_what_is_not_exact_is_not_called_so(tmp_path, another_row):
    another_row(encode=forgetful)
    with pytest.warns(UserWarning, match=r"chunks differ by .* from the whole with diffusers .*: not exact"):
        model = vidlatent.load_model(publish("magvit", tmp_path), device="cpu")
    assert not model.spec.exact and model.spec.plan.encode_time.batches


def stingy(network, latents, state):
    for video in magvit.ROW.decode(network, latents, state):
        yield video[:, :, :1]


def test_what_loses_frames_is_refused(tmp_path, another_row):
    another_row(decode=stingy)
    with pytest.raises(BadWeights, match=r"of 9 frames 3 come back with diffusers"):
        vidlatent.load_model(publish("magvit", tmp_path), device="cpu")


def test_the_test_at_load_leaves_the_random_numbers_of_others_alone(tmp_path):
    folder = publish("vidtok", tmp_path)
    check._examine.cache_clear()
    torch.manual_seed(5)
    wanted = torch.rand(3)
    torch.manual_seed(5)
    vidlatent.load_model(folder, device="cpu")
    assert torch.equal(torch.rand(3), wanted)


# With and without the extra.


def test_nothing_imports_diffusers_until_such_a_model_is_asked_for():
    code = (
        "import sys; from vidlatent.jobs.models import list_models; from vidlatent.models import registry\n"
        "assert 'mochi-1' in [row.name for row in list_models()]; import vidlatent\n"
        "vidlatent.load_model(device='cpu'); assert 'diffusers' not in sys.modules"
    )
    warm.run(["-c", code], check=True)


@pytest.fixture
def without_diffusers(monkeypatch):
    monkeypatch.setitem(sys.modules, "diffusers", None)


def test_without_the_extra_its_models_are_not_listed_and_named_in_a_line(without_diffusers, capsys):
    listed = run_here(capsys, "models", "list", "--json")
    assert listed.code == 0
    assert "mochi-1" not in listed.out and "pocket" in listed.out
    assert "mochi-1" in listed.err and "pip install 'vidlatent[diffusers]'" in listed.err


def test_without_the_extra_its_models_say_how_to_install_it(without_diffusers, tmp_path):
    install = r"\nhint: pip install 'vidlatent\[diffusers\]'"
    with pytest.raises(
        UsageError, match=r"mochi-1: runs through diffusers, which is not installed" + install
    ):
        vidlatent.load_model("mochi-1")
    folder = tmp_path / "m"
    folder.mkdir()
    (folder / "config.json").write_text('{"_class_name": "AutoencoderKLMochi"}')
    save_file({"x": torch.zeros(1)}, folder / "model.safetensors")
    with pytest.raises(UsageError, match="not installed" + install):
        vidlatent.load_model(folder)

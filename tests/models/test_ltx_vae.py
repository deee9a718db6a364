"""LTX-Video and LTX-2 against the authors' code, and against themselves: streamed is the whole clip."""

import csv
import json
import random
import subprocess
import sys
from contextlib import nullcontext

import pytest
import torch
from helpers import cases, ltx_files, warm
from helpers.ltx_files import narrowed, network, shallow
from helpers.sampled import SEED, some
from helpers.streams import chunked, streamed
from safetensors.torch import save_file

import vidlatent
from vidlatent.engine.demand import Workload
from vidlatent.engine.footprint import LiveBytes
from vidlatent.engine.memory import needed_bytes
from vidlatent.engine.model import Model
from vidlatent.engine.runtime import Runtime
from vidlatent.errors import BadInput, BadWeights, UsageError
from vidlatent.models import ltx_network, registry
from vidlatent.models.base import frame_noise
from vidlatent.models.causal import TimeState, whole
from vidlatent.models.ltx_names import rename_authors, rename_diffusers
from vidlatent.models.ltx_vae import FAMILY

one_thread = cases.one_thread

# Nets of full depth and small width are run in float64: what is left is how convolutions add.
STREAM_MAX_ABS = 1e-11

GOLDENS = ("ltx_v090", "ltx_v091", "ltx_v095", "ltx2_v20", "ltx2_v23")
# latents that go in before anything comes out, frames still inside when all went in
RELEASES = {
    "ltx-video-0.9.0": (25, 191),
    "ltx-video-0.9.1": (32, 241),
    "ltx-video-0.9.5": (23, 173),
    "ltx-2": (23, 173),
    "ltx-2.3": (15, 108),
}
ONE_RELEASE = random.Random(SEED).choice(list(RELEASES))


@pytest.fixture(scope="module", params=GOLDENS)
def case(request, tmp_path_factory):
    return cases.compact(request.param, tmp_path_factory.mktemp(request.param))


@pytest.fixture
def planes(case, monkeypatch):
    """The noise of the runs that were made with noise."""
    keys = case.facts["state_dict"]
    rename = rename_diffusers(keys)
    theirs = {rename(key): key for key in keys}
    monkeypatch.setattr(
        ltx_network, "noise_plane", lambda seed, label, *sides: case.plane(theirs[label], *sides)
    )


@pytest.fixture(scope="module", params=RELEASES)
def release(request):
    return request.param


@pytest.fixture(scope="module")
def narrow(release):
    """A release at full depth with random weights, in float64."""
    return network(narrowed(release))


@pytest.fixture(
    scope="module",
    params=[
        *((shallow, name) for name in ("ltx-video-0.9.5", "ltx-2.3")),
        *(pytest.param((narrowed, name), marks=pytest.mark.slow) for name in ("ltx-video-0.9.5", "ltx-2.3")),
    ],
    ids=lambda param: f"{param[0].__name__} {param[1]}",
)
def any_depth(request):
    """A release with random weights, in float64: what holds for it does not depend on how deep it is."""
    config_of, name = request.param
    return network(config_of(name))


def latents_of(net: torch.nn.Module, frames: int, height: int = 2, width: int = 2) -> torch.Tensor:
    return torch.randn(1, net.spec.channels, frames, height, width, dtype=torch.float64)


def assert_same(got: torch.Tensor, wanted: torch.Tensor) -> None:
    assert got.shape == wanted.shape
    assert (got - wanted).abs().max() <= STREAM_MAX_ABS


# --- the authors' numbers ---


def test_every_golden_run_in_one_call(case, planes):
    for run in case.facts["runs"]:
        model = case.told(run)
        cases.assert_close(cases.bare_encode(model, case.video(run)), case.wanted[run["moments"]])
        cases.assert_close(cases.bare_decode(model, case.mean(run)), case.wanted[run["decoded"]])


@pytest.mark.parametrize(("window", "latent_window"), [(9, 2), (17, 3), (None, None), (0, 0)])
def test_every_golden_run_through_the_engine(case, planes, window, latent_window):
    for run in case.facts["runs"]:
        model = case.told(run)
        plan = model.plan(window, latent_window)
        moments = torch.cat(list(model.encode_stream(case.video(run).unbind(2), plan)), dim=2)
        cases.assert_close(moments, case.wanted[run["moments"]])
        cases.assert_close(model.decode(case.mean(run), plan), case.wanted[run["decoded"]])


def test_scale_and_shift_are_those_of_the_weights(case):
    spec, facts = case.model.spec, case.facts["constants"]
    assert spec.shift == tuple(facts["latents_mean"]["values"])
    assert spec.scale == pytest.approx([1 / std for std in facts["latents_std"]["values"]])


# --- streamed is whole ---


SOME_FRAMES, SOME_LATENTS = some(range(3, 43), 1, 1, 2, 9), some(range(3, 14), 1, 1, 2)


@pytest.mark.parametrize(
    "lengths",
    [
        pytest.param(SOME_FRAMES, id=str(SOME_FRAMES)),
        pytest.param(range(1, 43), id="all", marks=pytest.mark.slow),
    ],
)
def test_encoding_in_chunks_is_the_whole_clip(narrow, lengths):
    dice = random.Random(1)
    video = torch.rand(1, 3, 42, 32, 32, dtype=torch.float64) * 2 - 1
    for frames in lengths:
        clip = video[:, :, :frames]
        undivided = whole(narrow.encode(clip, TimeState()))
        for most in (3, 17):
            chunks = chunked(frames, most, lambda most=most: dice.randrange(1, most + 1))
            assert_same(streamed(narrow.encode, clip, chunks), undivided)


@pytest.mark.parametrize(
    "lengths",
    [
        pytest.param(SOME_LATENTS, id=str(SOME_LATENTS)),
        pytest.param([*range(1, 14), 20, 36], id="all", marks=pytest.mark.slow),
    ],
)
def test_decoding_in_chunks_is_the_whole_clip(narrow, lengths):
    for length in lengths:
        check_decoding(narrow, length)


def test_decoding_in_chunks_is_the_whole_clip_when_frames_come_before_its_end(any_depth):
    check_decoding(any_depth, any_depth.spec.latency + 2)


def check_decoding(net: torch.nn.Module, length: int) -> None:
    dice = random.Random(length)
    latents = latents_of(net, length)
    undelayed = decode_at_once(net, latents)
    assert undelayed.shape[2] == 8 * length - 7
    for most in {1, 4, length}:
        chunks = chunked(length, most, lambda most=most: dice.randrange(1, most + 1))
        assert_same(streamed(net.decode, latents, chunks), undelayed)


def decode_at_once(net: torch.nn.Module, x: torch.Tensor) -> torch.Tensor:
    """What the decoder is, written down without any thought of streaming."""
    decoder, timestep = net.decoder, net.timestep and net.spec.setting("timestep")
    waves = ltx_network.waves_of(timestep * decoder.timestep_scale_multiplier) if net.timestep else None
    x = convolved(decoder.conv_in, x)
    for block in decoder.up_blocks:
        if isinstance(block, ltx_network.Unfold):
            y = ltx_network.unfold(convolved(block.conv, x), block.stride)
            if block.residual:
                skip = ltx_network.unfold(x, block.stride)
                y = y + skip.repeat(1, y.shape[1] // skip.shape[1], 1, 1, 1)
            x = y[:, :, block.stride[0] - 1 :]
        elif isinstance(block, ltx_network.Stage):
            embedding = block.time_embedder(waves).view(4, -1) if net.timestep else None
            for inner in block.res_blocks:
                x = added(inner, x, embedding)
        else:
            x = added(block, x, None)
    told = None
    if net.timestep:
        told = decoder.scale_shift_table + decoder.time_embedder(waves).view(2, -1)
    return ltx_network.unpatchify(convolved(decoder.conv_out, normalised(x, told)), decoder.patch)


def convolved(conv: torch.nn.Module, x: torch.Tensor) -> torch.Tensor:
    x = torch.cat([x[:, :, :1], x, x[:, :, -1:]], dim=2)
    x = torch.nn.functional.pad(x, (1, 1, 1, 1, 0, 0), mode="reflect" if conv.mirror else "constant")
    return torch.nn.functional.conv3d(x, conv.conv.weight, conv.conv.bias)


def normalised(x: torch.Tensor, told: torch.Tensor | None) -> torch.Tensor:
    x = x / (x.square().mean(1, keepdim=True) + 1e-8).sqrt()
    if told is not None:
        shift, scale = (row.view(-1, 1, 1, 1) for row in told)
        x = x * (1 + scale) + shift
    return torch.nn.functional.silu(x)


def added(block: torch.nn.Module, x: torch.Tensor, embedding: torch.Tensor | None) -> torch.Tensor:
    told = (None, None) if embedding is None else (block.scale_shift_table + embedding).split(2)
    h = convolved(block.conv1, normalised(x, told[0]))
    h = convolved(block.conv2, normalised(h, told[1]))
    return h + (x if block.norm3 is None else block.conv_shortcut(block.norm3(x)))


def test_a_release_says_how_many_latents_it_takes_before_it_gives_a_frame(release, narrow):
    assert registry.find(release).latency == narrow.spec.latency == RELEASES[release][0]


@pytest.mark.parametrize(
    "release",
    [pytest.param(name, marks=() if name == ONE_RELEASE else pytest.mark.slow) for name in RELEASES],
    indirect=True,
)
def test_what_is_delayed_comes_in_small_pieces(release, narrow):
    """Nothing comes out before so many latents; then 8 frames for each; at the end, what is inside."""
    first, inside = RELEASES[release]
    latents, state, counts = latents_of(narrow, first + 3, 2, 2), TimeState(more=True), []
    for n in range(first + 3):
        counts.append(sum(piece.shape[2] for piece in narrow.decode(latents[:, :, n : n + 1], state)))
    assert not any(counts[: first - 1]) and 0 < counts[first - 1] <= 8 and set(counts[first:]) == {8}
    state.more = False
    rest = [piece.shape[2] for piece in narrow.decode(latents[:, :, :0], state)]
    assert sum(rest) == inside and max(rest) <= 8
    assert sum(counts) + inside == 8 * (first + 3) - 7


def test_memory_is_flat_and_the_flush_does_not_raise_it(any_depth):
    """In twice as many latents as just fill the decoder, no more than in those."""
    peaks, full = [], any_depth.spec.latency + 2
    for length in (full, 2 * full):
        state, latest = TimeState(more=True), []
        for n in range(length):
            state.more, latents = n + 1 < length, latents_of(any_depth, 1)
            with LiveBytes() if n + 3 > length else nullcontext() as meter:
                for piece in any_depth.decode(latents, state):
                    del piece
            latest.append(meter and meter.peak)
        assert latest[-1] <= latest[-2]
        peaks.append(latest[-2])
    assert peaks[1] == peaks[0]


def test_the_memory_that_is_foretold_is_that_of_a_full_decoder(any_depth):
    model = Model(any_depth, Runtime(torch.device("cpu"), torch.float64))
    plan = model.plan(latent_window=2)
    foretold = needed_bytes(model, plan, Workload(64, 64, encode=False))
    state, calls = TimeState(more=True), any_depth.spec.latency // 2 + 2
    for n in range(calls):
        latents = latents_of(any_depth, 2)
        with LiveBytes() if n + 1 == calls else nullcontext() as meter:
            whole(any_depth.decode(latents, state))
    assert state.nbytes < meter.peak + state.nbytes <= foretold < 2 * (meter.peak + state.nbytes)


def test_the_state_does_not_grow_with_the_clip(any_depth):
    latents, state, sizes = latents_of(any_depth, 1), TimeState(more=True), []
    for _ in range(any_depth.spec.latency + 7):
        list(any_depth.decode(latents, state))
        sizes.append(state.nbytes)
    assert sizes[-5] == sizes[-1] > 0
    state, sizes = TimeState(more=True), []
    for frames in (1, 8, 8, 8):
        whole(any_depth.encode(torch.rand(1, 3, frames, 32, 32, dtype=torch.float64), state))
        sizes.append(state.nbytes)
    assert sizes[1] == sizes[3] > 0


def test_two_clips_may_interleave_and_an_error_leaves_nothing(any_depth):
    clips = [latents_of(any_depth, 4) for _ in range(2)]
    states, parts = [TimeState(more=True) for _ in clips], [[], []]
    for start, stop in ((0, 1), (1, 3), (3, 4)):
        broken = TimeState(more=True)
        with pytest.raises(RuntimeError):
            list(any_depth.decode(clips[0][:, :-1], broken))
        for clip, state, done in zip(clips, states, parts, strict=True):
            state.more = stop < 4
            done += any_depth.decode(clip[:, :, start:stop], state)
    for clip, done in zip(clips, parts, strict=True):
        assert_same(torch.cat(done, dim=2), decode_at_once(any_depth, clip))


def test_tiles_are_streamed_side_by_side(any_depth):
    """A tile gives its pieces when the others give theirs: the clip's end does not let a whole tile burst."""
    model = Model(any_depth, Runtime(torch.device("cpu"), torch.float64))
    latents = latents_of(any_depth, 3, 4, 6)
    tiled = list(model.decode_stream(latents.unbind(2), model.plan(tile=96, latent_window=2)))
    assert max(piece.shape[2] for piece in tiled) <= 8
    assert torch.cat(tiled, dim=2).shape == (1, 3, 17, 128, 192)


def test_a_causal_decoder_gives_its_frames_at_once():
    net = network({**narrowed("ltx-2.3"), "decoder_causal": True})
    latents = latents_of(net, 4)
    undivided = whole(net.decode(latents, TimeState()))
    assert_same(streamed(net.decode, latents, [(0, 1), (1, 3), (3, 4)]), undivided)
    assert [p.shape[2] for p in net.decode(latents[:, :, :1], TimeState(more=True))] == [1]


def test_a_decoder_that_mirrors_borders_refuses_what_has_none():
    net = network(narrowed("ltx-2"))
    with pytest.raises(BadInput, match="latents of 3x1: this decoder mirrors"):
        list(net.decode(latents_of(net, 1, 1, 3), TimeState()))
    assert whole(net.encode(torch.zeros(1, 3, 1, 32, 32, dtype=torch.float64), TimeState())).shape[3:] == (
        1,
        1,
    )


def test_an_encoder_that_mirrors_borders_refuses_what_has_none():
    net = network({**narrowed("ltx-2"), "encoder_spatial_padding_mode": "reflect"})
    with pytest.raises(BadInput, match=r"frames of 64x32: this encoder mirrors .* at least 64x64"):
        list(net.encode(torch.zeros(1, 3, 1, 32, 64, dtype=torch.float64), TimeState()))


# --- what the decoder is told ---


@pytest.fixture(scope="module")
def noisy(tmp_path_factory):
    """A model whose decoder is told a timestep and takes noise, from a folder as models are published in."""
    path = ltx_files.folder(tmp_path_factory.mktemp("noisy"), "ltx-video-0.9.1")
    return vidlatent.load_model(path, device="cpu")


def test_by_default_decoding_is_a_function_of_the_latents(noisy):
    latents = torch.randn(1, 4, 2, 1, 2)
    assert torch.equal(noisy.decode(latents), noisy.decode(latents))
    assert {option.name: option.default for option in noisy.spec.options} == {
        **{"timestep": 0.05, "noise": 0.0, "inject_noise": False, "seed": 0}
    }
    assert noisy.spec.changed() == {}


def test_memory_can_be_foretold_with_noise_too(noisy):
    told = noisy.choose(inject_noise=True)
    work = Workload(32, 64, encode=False)
    sizes = [needed_bytes(model, model.spec.plan, work) for model in (noisy, told)]
    assert sizes[0] <= sizes[1] < 1.1 * sizes[0]


def test_each_setting_changes_the_picture(noisy):
    latents = torch.randn(1, 4, 2, 1, 2)
    plain = noisy.decode(latents)
    for settings in ({"timestep": 0.5}, {"noise": 0.025}, {"inject_noise": True}):
        told = noisy.choose(**settings)
        assert not torch.equal(told.decode(latents), plain)
        assert told.spec.changed() == settings
        reseeded = told.choose(seed=1).decode(latents)
        assert torch.equal(reseeded, told.decode(latents)) == ("timestep" in settings)
    assert torch.equal(noisy.decode(latents), plain)


def test_noise_is_mixed_in_a_diffusion_models_units_frame_by_frame(noisy):
    latents, share = torch.randn(1, 4, 3, 1, 2), 0.25
    scale, shift = (torch.tensor(v).view(-1, 1, 1) for v in (noisy.spec.scale, noisy.spec.shift))
    frames = []
    for n, frame in enumerate(latents.unbind(2)):
        noise = torch.from_numpy(frame_noise(7, n, (1, 4, 1, 2)))
        normal = (1 - share) * (frame - shift) * scale + share * noise
        frames.append(normal / scale + shift)
    told = noisy.choose(noise=share, seed=7)
    cases.assert_close(told.decode(latents), noisy.decode(torch.stack(frames, dim=2)))


def test_noise_does_not_depend_on_how_the_clip_is_cut(noisy):
    told, latents = noisy.choose(noise=0.1, inject_noise=True), torch.randn(1, 4, 5, 1, 2)
    plans = [told.plan(latent_window=window) for window in (2, 0)]
    cases.assert_close(*(told.decode(latents, plan) for plan in plans))


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"timestep": 1.5}, "timestep=1.5: expected a number from 0 to 1"),
        ({"seed": "2.5"}, "seed=2.5: expected a whole number from 0"),
        ({"inject_noise": "maybe"}, "inject_noise=maybe: expected true or false"),
        (
            {"nois": 1},
            "nois: ltx-video-vae has no such option\nhint: it has: timestep, noise, inject_noise, seed",
        ),
    ],
)
def test_settings_are_checked(noisy, settings, words):
    with pytest.raises(UsageError, match=words):
        noisy.choose(**settings)


def test_text_is_a_setting_too(noisy):
    told = noisy.choose(timestep="0.1", inject_noise="on", seed="3")
    assert told.spec.changed() == {"timestep": 0.1, "inject_noise": True, "seed": 3}


def test_models_whose_decoder_is_told_nothing_have_no_options():
    assert registry.find("ltx-2.3").options == ()
    with pytest.raises(UsageError, match="timestep: pocket has no such option\nhint: it has none"):
        vidlatent.load_model("pocket", device="cpu", settings={"timestep": 0.1})


# --- files ---


def authors_key(name: str) -> str:
    """Our name for a tensor → the authors'."""
    statistics = {"latents_mean": "mean-of-means", "latents_std": "std-of-means"}
    if name in statistics:
        return f"per_channel_statistics.{statistics[name]}"
    head, _, rest = name.partition(".")
    rest = rest.replace("time_embedder.", "time_embedder.timestep_embedder.")
    rest = rest.replace("conv_shortcut.conv.", "conv_shortcut.")
    if head == "decoder" and rest.startswith(("time_embedder", "scale_shift_table")):
        rest = f"last_{rest}"
    return f"{head}.{rest}"


def single_file(path, name: str, prefix: str = "vae.", metadata: dict | None = None, **more: torch.Tensor):
    """A full model's file with the VAE of a narrowed release in it; and its tensors by our names."""
    state = network(narrowed(name), torch.bfloat16).state_dict()
    state["latents_std"] += 1
    named = {prefix + authors_key(key): value.contiguous() for key, value in state.items()}
    save_file(named | more, path, metadata)
    return state


@pytest.mark.parametrize("prefix", ["vae.", ""])
def test_a_single_file_loads_by_itself(tmp_path, release, prefix):
    """Its names tell the network, what surrounds its frames, and whether its samplers are residual."""
    path = tmp_path / "model.safetensors"
    extra = {f"{prefix}per_channel_statistics.channel": torch.zeros(3)}
    state = single_file(path, release, prefix, **extra)
    model = vidlatent.load_model(path, device="cpu", dtype="bf16")
    loaded = model.network.state_dict()
    assert all(torch.equal(loaded[key].to(value), value) for key, value in state.items())
    wanted = ltx_network.LtxConfig.of(narrowed(release))
    assert ltx_network.LtxConfig.of(model.spec.config) == wanted
    assert model.spec.scale == (0.5,) * model.spec.channels


def between_transformers(path, other: int):
    """The file of a VAE with `other` bytes of a transformer before and after it, which are never written."""
    content = path.read_bytes()
    length = 8 + int.from_bytes(content[:8], "little")
    header = json.loads(content[8:length])
    for entry in (entry for name, entry in header.items() if name != "__metadata__"):
        entry["data_offsets"] = [other + offset for offset in entry["data_offsets"]]
    ends = (0, other, other + len(content) - length, 2 * other + len(content) - length)
    for part, start, stop in (("first", *ends[:2]), ("last", *ends[2:])):
        name = f"model.diffusion_model.{part}.weight"
        header[name] = {"dtype": "U8", "shape": [other], "data_offsets": [start, stop]}
    text = json.dumps(header).encode()
    with path.open("wb") as file:
        file.write(len(text).to_bytes(8, "little") + text)
        file.seek(other, 1)
        file.write(content[length:])
        file.truncate(8 + len(text) + ends[-1])


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="reads the kernel's account of a child")
def test_a_full_model_of_many_gigabytes_loads_in_the_memory_of_its_vae(tmp_path):
    """8 GB, told by its names and by the config in its metadata: nothing but the VAE is read."""
    path = tmp_path / "ltx-2.3-22b-dev.safetensors"
    said = {"vae": {"_class_name": "CausalVideoAutoencoder", "spatial_padding_mode": "zeros"}}
    single_file(path, "ltx-2.3", metadata={"config": json.dumps(said)})
    between_transformers(path, 4 << 30)
    assert path.stat().st_size > 8 << 30
    run = warm.run(["-c", OPEN, path], stdout=subprocess.PIPE, check=True)
    more, vae = map(int, run.stdout.split())
    assert vae > 1e6 and more < vae + 300e6, f"{more / 1e6:.0f} MB for {vae / 1e6:.0f} MB"


OPEN = """
import sys, vidlatent
from vidlatent.engine.runtime import peak_host_bytes
vidlatent.load_model("toy", device="cpu")  # what every model imports
before = peak_host_bytes()
model = vidlatent.load_model(sys.argv[1], device="cpu")
print(peak_host_bytes() - before, sum(tensor.nbytes for tensor in model.network.state_dict().values()))
"""


def test_a_file_of_diffusers_loads_without_its_config(case, tmp_path):
    path = tmp_path / "bare.safetensors"
    path.write_bytes((case.folder / "diffusion_pytorch_model.safetensors").read_bytes())
    spec = vidlatent.load_model(path, device="cpu").spec
    assert ltx_network.LtxConfig.of(spec.config) == ltx_network.LtxConfig.of(case.config)
    assert spec.scale == case.model.spec.scale


def test_the_config_in_the_metadata_has_the_last_word(tmp_path):
    said = {"vae": {"_class_name": "CausalVideoAutoencoder", "spatial_padding_mode": "zeros"}}
    single_file(tmp_path / "a.safetensors", "ltx-2", metadata={"config": json.dumps(said)})
    spec = registry.resolve(tmp_path / "a.safetensors").spec
    assert ltx_network.LtxConfig.of(spec.config).reflect == (False, False)


PLAIN = {
    "_class_name": "CausalVideoAutoencoder",
    "latent_channels": 8,
    "encoder_blocks": [["compress_all_res", {}], ["compress_time_res", {}]],
    "decoder_blocks": [["compress_all", {"residual": True}], ["compress_time", {"residual": True}]],
}
STEPPING = {"encoder_blocks": [["compress_all", 1], ["compress_time", 1]]}


@pytest.mark.parametrize(
    ("more", "reflect"),
    [
        ({}, (False, True)),
        ({"timestep_conditioning": True}, (False, False)),
        (STEPPING, (False, False)),
        ({**STEPPING, "spatial_padding_mode": "reflect"}, (True, True)),
    ],
)
def test_what_a_config_of_the_authors_leaves_out_is_as_in_their_code(more, reflect):
    c = ltx_network.LtxConfig.of({**PLAIN, **more})
    assert (c.encoder[0].inputs, c.reflect) == (8, reflect)
    assert [block.residual for block in c.decoder] == [
        False,
        True,
    ]  # a flag that they hear of some blocks alone


def test_a_convolution_that_steps_may_mirror_borders():
    block = ltx_network.Block("strided", 2, 3, stride=(2, 2, 2))
    layer = ltx_network.Strided(block, ltx_network.Around(mirror=True)).double()
    x = torch.randn(1, 2, 5, 4, 6, dtype=torch.float64)
    padded = torch.nn.functional.pad(torch.cat([x[:, :, :1]] * 2 + [x], dim=2), (1, 1, 1, 1, 0, 0), "reflect")
    wanted = torch.nn.functional.conv3d(padded, layer.conv.weight, layer.conv.bias, 2)
    state = TimeState(more=True)
    with torch.no_grad():
        assert_same(torch.cat([layer(part, state) for part in x.split(2, dim=2)], dim=2), wanted.detach())


@pytest.mark.parametrize(
    ("said", "words"),
    [
        ({"decoder_blocks": [["attn_res_x", {"num_layers": 2}]]}, "a block 'attn_res_x' in the decoder"),
        ({"norm_layer": "group_norm"}, "norm_layer = 'group_norm' is not supported"),
        ({"_class_name": "CausalDiffusionVAE"}, "a diffusion model"),
    ],
)
def test_a_config_that_no_network_here_has_is_refused(tmp_path, said, words):
    config = {"vae": {"_class_name": "CausalVideoAutoencoder", **said}}
    single_file(tmp_path / "a.safetensors", "ltx-2.3", metadata={"config": json.dumps(config)})
    with pytest.raises(BadWeights, match=words):
        registry.resolve(tmp_path / "a.safetensors")


def test_the_diffusion_decoder_of_2_5_is_refused_with_advice(tmp_path):
    more = {"decoder.det_stages.0.weight": torch.zeros(1)}
    single_file(tmp_path / "a.safetensors", "ltx-2.3", "", **more)
    with pytest.raises(BadWeights, match=r"a diffusion model(.|\n)*use ltx-2.5-video-vae-conv"):
        registry.resolve(tmp_path / "a.safetensors")


def test_unknown_and_missing_keys_are_quoted(tmp_path):
    path = tmp_path / "a.safetensors"
    single_file(path, "ltx-2.3", "vae.", **{"vae.decoder.conv_up.weight": torch.zeros(1)})
    with pytest.raises(BadWeights, match=r"not of this network 1 key \(vae.decoder.conv_up.weight\)"):
        vidlatent.load_model(path, device="cpu")


def test_statistics_without_spread_are_refused(tmp_path):
    folder = cases.publish(narrowed("ltx-2.3"), {}, tmp_path / "model")
    state = network(narrowed("ltx-2.3"), torch.float32).state_dict()
    state["latents_std"].zero_()
    save_file({key: value.contiguous() for key, value in state.items()}, next(folder.glob("*.safetensors")))
    with pytest.raises(BadWeights, match="say no spread"):
        vidlatent.load_model(folder, device="cpu")


TABLES = {
    "ltx_v090": "ltx-video-0.9.0",
    "ltx_v091": "ltx-video-0.9.1",
    "ltx_v095": "ltx-video-0.9.8",
    "ltx2_v20": "ltx-2",
    "ltx2_v23": "ltx-2.5",
}


@pytest.mark.parametrize("table", TABLES)
@pytest.mark.parametrize("layout", ["single", "diffusers"])
def test_every_published_key_has_its_place(shared, table, layout):
    with torch.device("meta"):
        state = FAMILY.build(registry.find(TABLES[table])).state_dict()
    with (shared / f"spec/keys/{table}_{layout}_keys.tsv").open() as file:
        rows = list(csv.DictReader(file, delimiter="\t"))
    shapes = {row["key"].removeprefix("vae."): row["shape"] for row in rows}
    rename = rename_authors if layout == "single" else rename_diffusers(shapes)
    published = {rename(key): shape for key, shape in shapes.items()}
    published.pop(None, None)
    assert published == {key: "x".join(map(str, value.shape)) or "1" for key, value in state.items()}


@pytest.mark.parametrize("table", TABLES)
def test_what_published_keys_imply_is_the_published_config(shared, table):
    with (shared / f"spec/keys/{table}_single_keys.tsv").open() as file:
        rows = list(csv.DictReader(file, delimiter="\t"))
    shapes = {row["key"].removeprefix("vae."): tuple(map(int, row["shape"].split("x"))) for row in rows}
    implied = ltx_network.LtxConfig.of(FAMILY.layouts[0].config(shapes))
    assert implied == ltx_network.LtxConfig.of(registry.find(TABLES[table]).config)

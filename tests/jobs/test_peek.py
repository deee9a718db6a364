"""A look at latents: the right pictures at the right times, by whoever can show them, or a word why not."""

from dataclasses import replace
from fractions import Fraction
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
import torch
from helpers.tiny_models import save_tiny

import vidlatent
from vidlatent.clock import FrameClock
from vidlatent.engine.load import load_model
from vidlatent.engine.pixels import to_frames
from vidlatent.errors import UsageError
from vidlatent.grid import Grid
from vidlatent.io.latent.header import LatentHeader, Pad, Source
from vidlatent.io.latent.writer import LatentWriter
from vidlatent.io.picture.colour import Colour
from vidlatent.io.picture.info import Picture
from vidlatent.io.picture.resample import resize
from vidlatent.jobs.encode import EncodeOptions, ReadOptions
from vidlatent.jobs.models import ModelChoice
from vidlatent.jobs.peek import MOST_PICTURES, PeekOptions, peek
from vidlatent.models import registry, tae_vae
from vidlatent.models.causal import TimeState, whole
from vidlatent.models.tae_vae import Glimpse, Growth

# Pocket's colours against the mean colours of blocks of its own pictures. Measured: 32.4; with red and blue
# exchanged 21.6, one block to the right 20.0, one grey for all 14.9.
GOOD_DB, WRONG_DB = 30, 23
BASE = Fraction(1, 1000)


@pytest.fixture(scope="module")
def pocket(tmp_path_factory, sample) -> Path:
    """The sample clip in Pocket's latents, 17 frames with sound."""
    path = tmp_path_factory.mktemp("pocket") / "s.latent"
    vidlatent.encode(sample, path, options=EncodeOptions(read=ReadOptions(frames=17)))
    return path


@pytest.fixture(scope="module")
def tiny_files(tmp_path_factory) -> Path:
    """A folder of tiny models with random weights, under the names that they are published by."""
    folder = tmp_path_factory.mktemp("vae_approx")
    torch.manual_seed(0)
    for name in ("taew2_1", "taehv", "taecvx"):
        save_tiny(name, folder / f"{name}.safetensors")
    save_tiny("taew2_2_super", folder / "taew2_2_super.pth")
    return folder


def latent_file(path: Path, model: str, frames: int, latents: torch.Tensor, **facts) -> Path:
    """A file of latents [t, C, h, w], as `model` would make them of a clip a little smaller than they are."""
    spec = registry.find(model)
    grid = facts.get("grid", spec.grid)
    height, width = (side * grid.space - 2 for side in latents.shape[2:])
    colour = Colour("bt709", "tv", "bt709", "bt709")
    header = LatentHeader(
        *(model, "", {}, grid, spec.plan),
        source=Source("clip.mp4", frames, width, height),
        pad=Pad(grid.frames(len(latents)) - frames, 2, 2),
        picture=Picture(width, height, Fraction(1), colour, 8, BASE, Fraction(25)).to_json(),
        scale=spec.scale,
        shift=spec.shift,
    )
    header = replace(header, **facts)
    with LatentWriter(path, header, *latents.shape[1:], "F32", False) as writer:
        writer.append(latents)
        writer.close(clock(frames), header=header)
    return path


def clock(frames: int) -> FrameClock:
    pts = np.cumsum([40 + n % 3 for n in range(frames)])
    return FrameClock(BASE, pts, np.full(frames, 30))


def shown(path: Path, target: Path, options: PeekOptions | None = None, **choice):
    """What a film in lossless pictures shows: pixels, and times as ticks."""
    result = peek(path, f"{target}/", ModelChoice(**choice), options)
    with vidlatent.open_video(target) as video:
        frames = list(video.frames())
    assert result.pictures == len(frames)
    return np.stack([frame.rgb for frame in frames]), [(frame.pts, frame.duration) for frame in frames]


def psnr(a: np.ndarray, b: np.ndarray) -> float:
    return float(-10 * np.log10(np.square(a.astype(float) - b).mean() / 255**2))


def read_png(path: Path) -> np.ndarray:
    with vidlatent.open_video(path) as image:
        return next(iter(image.frames())).rgb


def test_pockets_colours_show_its_pictures_without_its_network(pocket, tmp_path, monkeypatch):
    vidlatent.decode(pocket, f"{tmp_path / 'whole'}/")
    monkeypatch.setattr(vidlatent.models.pocket_vae.PocketVAE, "__init__", None)  # nobody may build it
    pictures, _ = shown(pocket, tmp_path / "quick")
    frames = np.stack([read_png(tmp_path / f"whole/{4 * n:06d}.png") for n in range(5)])
    blocks = frames.reshape(5, 45, 8, 60, 8, 3).mean(axis=(2, 4))
    small = np.stack([resize(picture, (60, 45)) for picture in pictures])
    assert psnr(small, blocks) > GOOD_DB
    assert psnr(small, blocks[..., ::-1]) < WRONG_DB, "red is not blue"
    assert psnr(small[:, :, 1:], blocks[:, :, :-1]) < WRONG_DB, "nor one block its neighbour"
    assert pictures.shape == (5, 360, 480, 3)


def test_a_film_of_colours_has_the_times_of_the_frames_that_latents_end_with(tmp_path):
    path = latent_file(tmp_path / "a.latent", "pocket", 15, torch.randn(5, 16, 3, 4))
    times = clock(15)
    pictures, told = shown(path, tmp_path / "film")
    ends = [0, 4, 8, 12, 14]  # of the last latent only two frames are the clip's own
    assert [pts for pts, _ in told] == [times.pts[n] for n in ends]
    assert [duration for _, duration in told] == [
        *(times.pts[b] - times.pts[a] for a, b in pairwise(ends)),
        times.last_duration,
    ]
    assert pictures.shape[1:] == (22, 30, 3), "what was padded is cut off"


def test_every_leaves_latents_out_and_the_last_picture_stays_to_the_end(tmp_path):
    path = latent_file(tmp_path / "a.latent", "pocket", 17, torch.randn(5, 16, 3, 4))
    everything, _ = shown(path, tmp_path / "all")
    pictures, told = shown(path, tmp_path / "some", PeekOptions(every=3))
    times = clock(17)
    assert [pts for pts, _ in told] == [times.pts[0], times.pts[12]]
    assert told[-1][1] == times.pts[16] + times.last_duration - times.pts[12]
    assert np.array_equal(pictures, everything[::3])


def test_sound_comes_with_a_film(pocket, tmp_path):
    result = peek(pocket, tmp_path / "quick.mp4")
    assert (result.pictures, result.width, result.height) == (5, 480, 360)
    with vidlatent.open_video(tmp_path / "quick.mp4") as video, vidlatent.open_latent(pocket) as latents:
        assert [track.codec for track in video.info.audio] == ["aac"]
        seconds = [frame.pts * video.info.time_base for frame in video.frames()]
        assert seconds == [latents.clock.seconds(n) for n in (0, 4, 8, 12, 16)]


def test_a_sheet_is_one_picture_of_at_most_so_many(pocket, tmp_path):
    result = peek(pocket, tmp_path / "sheet.png")
    assert (result.pictures, result.width, result.height) == (5, 224, 168)
    assert read_png(tmp_path / "sheet.png").shape == (8 + 198, 8 + 5 * 232, 3)
    path = latent_file(tmp_path / "long.latent", "pocket", 4 * 999 + 1, torch.randn(1000, 16, 3, 4))
    assert peek(path, tmp_path / "long.png").pictures == 24
    assert peek(path, tmp_path / "long.png", None, PeekOptions(every=5, force=True)).pictures == 200
    with pytest.raises(
        UsageError, match=rf"every 4: gives 250 .* holds {MOST_PICTURES}\nhint: give 5 or more"
    ):
        peek(path, tmp_path / "more.png", None, PeekOptions(every=4))
    assert not (tmp_path / "more.png").exists()


def test_what_exists_is_not_replaced_unasked(pocket, tmp_path):
    peek(pocket, tmp_path / "a.png")
    with pytest.raises(UsageError, match="exists already"):
        peek(pocket, tmp_path / "a.png")
    peek(pocket, tmp_path / "a.png", options=PeekOptions(force=True))


WAN = {"scale": tuple(0.5 + n / 16 for n in range(16)), "shift": tuple(n / 8 - 1 for n in range(16))}


def fed(latents: torch.Tensor) -> torch.Tensor:
    """Wan's latents [t, C, h, w] as its diffusion model gets them, [1, C, t, h, w]."""
    scale, shift = (torch.tensor(WAN[name]).view(1, -1, 1, 1) for name in ("scale", "shift"))
    return ((latents - shift) * scale).transpose(0, 1)[None]


def test_a_tiny_model_shows_every_frame_of_its_larger_ones_latents(tiny_files, tmp_path):
    latents = torch.randn(3, 16, 2, 3)
    path = latent_file(tmp_path / "a.latent", "wan-2.1", 8, latents, **WAN)
    pictures, told = shown(path, tmp_path / "film", weights=tiny_files)
    tiny = load_model("taew2_1", weights=tiny_files, device="cpu")
    assert np.array_equal(pictures, to_frames(tiny.decode(fed(latents))[:, :, :8], 14, 22))
    assert [pts for pts, _ in told] == list(clock(8).pts)


def test_a_tiny_model_shows_one_frame_per_latent_as_well(tiny_files, tmp_path):
    latents = torch.randn(12, 16, 2, 3)
    path = latent_file(tmp_path / "a.latent", "wan-2.1", 45, latents, **WAN)
    tiny = load_model("taew2_1", weights=tiny_files, device="cpu")
    last = Glimpse(tiny.network, Growth(all_frames=False))
    with torch.inference_mode():
        wanted = to_frames(whole(last.decode(fed(latents), TimeState())), 14, 22)
    pictures, _ = shown(path, tmp_path / "near", PeekOptions(every=2), weights=tiny_files)
    assert np.array_equal(pictures, wanted[::2])
    pictures, _ = shown(path, tmp_path / "far", PeekOptions(every=10), weights=tiny_files)
    assert np.array_equal(pictures[0], wanted[0])
    assert np.abs(pictures[1].astype(int) - wanted[10]).max() <= 1  # what lies far back is left out


def test_all_frames_come_of_a_clip_whose_first_latent_stands_for_four(tiny_files, tmp_path):
    """CogVideoX's latents come in pairs: two are eight frames. Its tiny model reads them raw."""
    latents = torch.randn(2, 16, 2, 3)
    path = latent_file(tmp_path / "a.latent", "cogvideox-5b", 8, latents)
    pictures, told = shown(path, tmp_path / "film", weights=tiny_files)
    tiny = load_model("taecvx", weights=tiny_files, device="cpu")
    with torch.inference_mode():
        every = whole(Glimpse(tiny.network, Growth()).decode(latents.transpose(0, 1)[None], TimeState()))
    assert len(told) == 8 and np.array_equal(pictures, to_frames(every, 14, 22))
    _, told = shown(path, tmp_path / "few", PeekOptions(every=1), weights=tiny_files)
    assert [pts for pts, _ in told] == [clock(8).pts[3], clock(8).pts[7]]


def test_a_tiny_model_with_large_weights_makes_sheets_too(tiny_files, tmp_path):
    latents = torch.randn(3, 48, 2, 2)
    path = latent_file(tmp_path / "a.latent", "wan-2.2-5b", 9, latents)
    result = peek(path, tmp_path / "a.png", ModelChoice(weights=tiny_files))
    assert (result.pictures, result.shown_by) == (3, "taew2_2_super")


def test_the_file_of_a_tiny_model_may_lie_where_the_variable_says(tiny_files, tmp_path, monkeypatch):
    path = latent_file(tmp_path / "a.latent", "qwen-image", 1, torch.randn(1, 16, 2, 3))
    monkeypatch.setenv("VIDLATENT_WEIGHTS", str(tiny_files))
    assert peek(path, tmp_path / "a.png").shown_by == "taew2_1"


def test_a_tiny_model_shows_its_own_latents_as_they_are(tiny_files, tmp_path, sample):
    model = load_model("taecvx", weights=tiny_files, device="cpu")
    read = ReadOptions(frames=5, size=(32, 24))
    vidlatent.encode(sample, tmp_path / "own.latent", model, EncodeOptions(read=read))
    vidlatent.decode(tmp_path / "own.latent", f"{tmp_path / 'whole'}/", model)
    pictures, _ = shown(tmp_path / "own.latent", tmp_path / "film", weights=tiny_files)
    assert np.array_equal(pictures[3], read_png(tmp_path / "whole/000003.png"))


@pytest.mark.parametrize(
    ("model", "weights", "words"),
    [
        ("wan-2.1", None, r"nothing is here that shows wan-2.1's .*hint: give taew2_1\.safetensors"),
        ("wan-2.1", "taehv.safetensors", "by wan-2.1, but taehv shows latents of hunyuan-video.*taew2_1"),
        ("hunyuan-video", "taew2_1.safetensors", "taew2_1 shows latents of wan-2.1 or qwen-image.*taehv"),
        ("hunyuan-video-1.5", "", "holds nothing that shows hunyuan-video-1.5's .*hint: .*taehv1_5"),
        ("cv-vae-sd3", None, "nothing is here that shows cv-vae-sd3's .*no quick decoder is known"),
    ],
)
def test_any_other_pair_is_refused_with_what_would_do(tiny_files, tmp_path, model, weights, words):
    channels = registry.find(model).channels
    path = latent_file(tmp_path / "a.latent", model, 1, torch.randn(1, channels, 2, 2))
    with pytest.raises(UsageError, match=f"(?s){words}"):
        peek(path, tmp_path / "a.png", ModelChoice(weights=None if weights is None else tiny_files / weights))
    assert not (tmp_path / "a.png").exists()


def test_a_model_without_colours_is_none_to_look_with(tmp_path, pocket):
    with pytest.raises(UsageError, match="toy: is no quick decoder, and no colours were fitted"):
        peek(pocket, tmp_path / "a.png", ModelChoice(model="toy"))


def test_colours_are_for_the_weights_that_they_were_fitted_to(tmp_path):
    facts = {"weights_sha256": "0" * 64}
    path = latent_file(tmp_path / "a.latent", "pocket", 1, torch.randn(1, 16, 2, 3), **facts)
    with pytest.raises(UsageError, match=r"made by pocket with other weights \(000000000000…\)"):
        peek(path, tmp_path / "a.png")


def test_other_shapes_under_a_models_name_are_refused(tiny_files, tmp_path):
    path = latent_file(tmp_path / "a.latent", "wan-2.1", 1, torch.randn(1, 16, 2, 3), grid=Grid(4, 16))
    with pytest.raises(
        UsageError, match="16 channels for 4 frames and 16 pixels, but taew2_1 reads 16 for 4 and 8"
    ):
        peek(path, tmp_path / "a.png", ModelChoice(weights=tiny_files))


def test_every_model_that_a_tiny_one_stands_in_for_has_its_name_here():
    elsewhere = {"open-sora-1.3"}
    larger = {name for spec in tae_vae.FAMILY.specs for name in spec.stands_in.models}
    assert larger - elsewhere <= set(registry.names())
    for spec in tae_vae.FAMILY.specs:
        for name in larger & set(spec.stands_in.models) - elsewhere:
            teacher = registry.find(name)
            assert (teacher.channels, teacher.grid.time, teacher.grid.space) == (
                spec.channels,
                spec.grid.time,
                spec.grid.space,
            )

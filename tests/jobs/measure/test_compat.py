"""Whether an image VAE understands a video VAE: on a pair built to match, on strangers, and on misfits."""

import json
import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from helpers import cases
from safetensors.torch import load_file

import vidlatent
from vidlatent.cli import app
from vidlatent.errors import UsageError
from vidlatent.io.read.source import ReadOptions
from vidlatent.jobs.measure.compat import CompatOptions, compat
from vidlatent.jobs.measure.compat_report import Crossing, Crossings, judge
from vidlatent.jobs.measure.likeness import Channel, Likeness, PictureScore, make_stand_ins, pick_most_similar
from vidlatent.models import cv_vae, image_vae

one_thread = cases.one_thread

IMAGE = {
    **image_vae.SD,
    "block_out_channels": (32, 32, 32, 32),
    "layers_per_block": 1,
    "use_quant_conv": False,
    "use_post_quant_conv": False,
}
VIDEO = {
    **cv_vae.SD21,
    "ch": 32,
    "ch_mult": (1, 1, 1, 1),
    "num_res_blocks": 1,
    "use_3d_conv": False,
    "decoder_attn_type": "vanilla",
    "tile_spatial_size": None,
}
SMALL = CompatOptions(ReadOptions(frames=9, size=(64, 48)))


def image_folder(folder: Path, seed: int, **flags) -> Path:
    config = {**IMAGE, **flags}
    torch.manual_seed(seed)
    return cases.publish(config, image_vae.FAMILY.build(image_vae.spec_of(config)).state_dict(), folder)


def matching_video_folder(folder: Path, image: Path) -> Path:
    """A video VAE that does to every fourth frame what the image VAE does, and repeats what it decodes."""
    state = load_file(image / "diffusion_pytorch_model.safetensors")
    for i in range(2):  # the image model counts the decoder's levels from the other end
        for key in [key for key in state if key.startswith(f"decoder.up_blocks.{i}.")]:
            other = key.replace(f"blocks.{i}.", f"blocks.{3 - i}.", 1)
            state[key], state[other] = state.get(other), state[key]
    wanted = cv_vae.FAMILY.build(cv_vae.spec_of(VIDEO)).state_dict()
    for key, value in wanted.items():
        if value.dim() == 5:  # a sampler: the causal one looks at its last frame, the other at the middle
            value.zero_()
            value[:, :, 2 if "down" in key else 1] = state[key].repeat(len(value) // len(state[key]), 1, 1, 1)
        else:
            value.copy_(state[key].repeat(len(value) // len(state[key]), *[1] * (value.dim() - 1)))
    return cases.publish(VIDEO, wanted, folder)


@pytest.fixture(scope="module")
def pair(tmp_path_factory) -> tuple[Path, Path]:
    folder = tmp_path_factory.mktemp("pair")
    image = image_folder(folder / "image", seed=0)
    return matching_video_folder(folder / "video", image), image


@pytest.fixture(scope="module")
def stranger(tmp_path_factory) -> Path:
    return image_folder(tmp_path_factory.mktemp("stranger"), seed=1)


def load(*folders: Path):
    return [vidlatent.load_model(folder, device="cpu") for folder in folders]


def test_a_matching_pair_is_compatible(pair, sample):
    report = compat(*load(*pair), sample, SMALL).report
    assert report.verdict.compatible
    assert report.crossings.latents.pearson > 0.95  # norms of a clip are not those of a frame
    assert abs(report.crossings.first_frame.gap_db) < 0.5 and abs(report.crossings.image_mode.gap_db) < 0.5
    assert (report.frames, report.width, report.height) == (9, 64, 48)


def test_strangers_are_incompatible(pair, stranger, sample):
    report = compat(*load(pair[0], stranger), sample, SMALL).report
    assert report.verdict.word == "incompatible"
    assert any("correlate" in reason for reason in report.verdict.reasons)


def test_another_number_of_channels_is_said_to_be_one(pair, tmp_path, sample):
    wide = image_folder(tmp_path, seed=0, latent_channels=16)
    report = compat(*load(pair[0], wide), sample, SMALL).report
    assert report.verdict.word == "channel mismatch"
    assert "4 latent channels" in report.verdict.reasons[0] and "16" in report.verdict.reasons[0]
    assert report.crossings is None and math.isfinite(report.image_alone.psnr)


def test_another_grid_is_said_to_be_one(pair, tmp_path, sample):
    types = {"down_block_types": ["DownEncoderBlock2D"] * 3, "up_block_types": ["UpDecoderBlock2D"] * 3}
    coarse = image_folder(tmp_path, seed=0, block_out_channels=(32, 32, 32), **types)
    assert compat(*load(pair[0], coarse), sample, SMALL).report.verdict.word == "grid mismatch"


def test_two_video_models_are_refused(pair, sample):
    with pytest.raises(UsageError, match="no image model"):
        compat(*load(pair[0], pair[0]), sample, SMALL)


def test_frames_that_fill_no_latent_and_odd_sides_are_left_out_and_said_so(pair, sample):
    options = replace(SMALL, read=ReadOptions(frames=8, size=(70, 50)))
    report = compat(*load(*pair), sample, options).report
    assert (report.frames, report.width, report.height) == (5, 64, 48)
    assert "3 frames" in " ".join(report.notices) and "70x50" in " ".join(report.notices)


def test_a_wrong_scale_is_told_from_a_stranger():
    z = torch.randn(1, 4, 3, 8, 8)
    channels = torch.tensor([1.0, 2, 3, 4]).view(1, 4, 1, 1, 1)
    scaled = Likeness.of(3 * z + channels, z)
    assert scaled.pearson == pytest.approx(1, abs=1e-6) and scaled.rel_l2_fitted < 1e-6 < 2 < scaled.rel_l2
    other = Likeness.of(torch.randn(1, 4, 3, 8, 8), z)
    bad, good = (Crossing(PictureScore(20, None, (20,)), gap) for gap in (9.0, 0.0))
    crossings = Crossings(bad, {}, bad, bad, bad, scaled, scaled)
    assert judge(crossings).word == "scale mismatch"
    assert judge(replace(crossings, latents=other)).word == "incompatible"
    assert judge(replace(crossings, first_frame=good, image_mode=good)).word == "compatible"


def test_channel_statistics_are_those_of_the_channel():
    video, image = torch.full((1, 1, 1, 2, 2), 5.0), torch.tensor([[1.0, 2], [3, 4]])[None, None, None]
    assert Likeness.of(video, image).channels == (Channel(5, 0, 2.5, pytest.approx(1.25**0.5), 0),)


def test_what_stands_for_a_group_of_frames():
    video = torch.arange(9.0).view(1, 1, 9, 1, 1)
    assert make_stand_ins(video, "first", 4).flatten().tolist() == [0]
    assert make_stand_ins(video, "slice", 4).flatten().tolist() == [0, 4, 8]
    assert make_stand_ins(video, "average", 4).flatten().tolist() == [0, 2.5, 6.5]
    drawn = make_stand_ins(video, "random", 4, seed=3).flatten().tolist()
    assert drawn == make_stand_ins(video, "random", 4, seed=3).flatten().tolist()
    assert drawn[0] == 0 and drawn[1] in (1, 2, 3, 4) and drawn[2] in (5, 6, 7, 8)
    near = pick_most_similar(video, torch.tensor([0.0, 3.2, 5.1]).view(1, 1, 3, 1, 1), 4)
    assert near.flatten().tolist() == [0, 3, 5]


def test_the_command_prints_json_and_draws_the_pictures(pair, sample, tmp_path, capsys):
    words = ["compat", "--video-vae", str(pair[0]), "--image-vae", str(pair[1]), str(sample)]
    words += ["--frames", "5", "--size", "64x48", "--device", "cpu"]
    picture = tmp_path / "out.png"
    assert app.run([*words, "--json", "--picture", str(picture)]) == 0
    document = json.loads(capsys.readouterr().out)
    assert document["verdict"]["word"] == "compatible" and document["frames"] == 5
    assert set(document["crossings"]["maps"]) == {"first", "slice", "average", "random"}
    assert len(document["crossings"]["latents"]["channels"]) == 4
    with vidlatent.open_video(picture) as drawn:
        (frame,) = drawn.frames()
    assert frame.rgb.shape == (5 * 48, 2 * 64, 3) and np.ptp(frame.rgb) > 0
    assert app.run([*words, "--picture", str(picture)]) == 2  # it exists


def test_the_command_prints_a_table_with_verdict_and_thresholds(pair, stranger, sample, capsys):
    words = ["compat", "--video-vae", str(pair[0]), "--image-vae", str(stranger), str(sample)]
    assert app.run([*words, "--frames", "5", "--size", "64x48", "--device", "cpu"]) == 0
    out = capsys.readouterr().out
    assert "INCOMPATIBLE" in out and "at most 3 dB" in out and "image mode" in out


def test_an_unknown_map_is_refused():
    with pytest.raises(UsageError, match="middle"):
        CompatOptions(maps=("slice", "middle"))

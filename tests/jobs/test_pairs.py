"""Files of a model whose latents come in pairs (CogVideoX): how many frames they are, and which."""

from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
import torch
from helpers import cache_clips, cases

import vidlatent
from vidlatent.engine.model import Model
from vidlatent.io.latent.reader import open_latent
from vidlatent.io.read.source import ReadOptions, open_video
from vidlatent.jobs.cache.recipe import Recipe
from vidlatent.jobs.cache.run import run
from vidlatent.jobs.cache.store import Store
from vidlatent.jobs.decode import DecodeOptions, decode
from vidlatent.jobs.encode import EncodeOptions, encode
from vidlatent.jobs.measure.roundtrip import RoundtripPass, Subject, roundtrip
from vidlatent.models.cogvideox_vae import CLASS_NAME, FAMILY

CONFIG = {
    "_class_name": CLASS_NAME,
    "block_out_channels": [4, 4, 4, 4],
    "norm_num_groups": 2,
    "layers_per_block": 1,
    "latent_channels": 2,
}

one_thread = cases.one_thread


@pytest.fixture(scope="module")
def model(tmp_path_factory) -> Model:
    torch.manual_seed(0)
    state = FAMILY.build(FAMILY.spec_of(CONFIG)).state_dict()
    return vidlatent.load_model(cases.publish(CONFIG, state, tmp_path_factory.mktemp("tiny")), device="cpu")


def facts(path: Path) -> tuple[int, int, int]:
    """Frames, added frames and latents of a file."""
    with open_latent(path) as latents:
        header = latents.header
        return header.source.frames, header.pad.frames, latents.frames


def frames_of(folder: Path) -> list[np.ndarray]:
    with open_video(folder) as video:
        return [frame.rgb for frame in video.frames()]


@pytest.mark.parametrize(
    ("frames", "added", "latents"), [(1, 0, 1), (5, 4, 3), (8, 0, 2), (9, 0, 3), (13, 4, 5), (16, 0, 4)]
)
def test_images_that_are_counted_beforehand_are_filled_only_where_they_do_not_fit(
    model, as_clip, moving_clip, tmp_path, frames, added, latents
):
    target = tmp_path / "clip.latent"
    encode(as_clip("clip", moving_clip(frames, 16, 16)), target, model)
    assert facts(target) == (frames, added, latents)
    decode(target, f"{tmp_path}/back/", model)
    with open_latent(target) as source:
        wanted = model.decode(source.read(0, latents).transpose(0, 1)[None])
    shown = ((wanted[0, :, :frames].clamp(-1, 1) + 1) * 127.5 + 0.5).floor().byte().permute(1, 2, 3, 0)
    assert np.array_equal(frames_of(tmp_path / "back"), shown.numpy())


def test_frames_of_a_film_are_not_known_beforehand(model, sample, tmp_path):
    target = tmp_path / "clip.latent"
    encode(sample, target, model, EncodeOptions(ReadOptions(frames=8, size=(16, 16)), audio=False))
    assert facts(target) == (8, 1, 3)


@pytest.mark.parametrize("asked", [{"frames": 8}, {"end": 16 * Fraction(1, 25)}])
def test_images_are_counted_after_those_that_are_left_out(model, as_clip, moving_clip, tmp_path, asked):
    clip, target = as_clip("clip", moving_clip(20, 16, 16)), tmp_path / "clip.latent"
    encode(clip, target, model, EncodeOptions(ReadOptions(**asked)))
    count = asked.get("frames", 16)
    assert facts(target) == (count, 0, count // 4)


@pytest.mark.parametrize("frames", [16, 17])
def test_a_part_is_decoded_as_it_is_in_the_whole(model, as_clip, moving_clip, tmp_path, frames):
    """State is carried from the first latent on, so decoding begins there."""
    target = tmp_path / "clip.latent"
    encode(as_clip("clip", moving_clip(frames, 16, 16)), target, model)
    decode(target, f"{tmp_path}/all/", model)
    decode(target, f"{tmp_path}/part/", model, DecodeOptions(start=10 * Fraction(1, 25)))
    assert np.array_equal(frames_of(tmp_path / "part"), frames_of(tmp_path / "all")[10:])


def test_a_clip_goes_there_and_back_with_every_frame(model, moving_clip):
    subject = Subject("tiny", model, "fp32", model.spec.plan)
    clip, done = moving_clip(13, 16, 16), RoundtripPass()
    pairs = list(roundtrip(subject, iter(clip), done))
    assert all(np.array_equal(source, frame) for (source, _), frame in zip(pairs, clip, strict=True))
    assert (done.frames, done.latents) == (13, 5)


def test_a_cache_holds_what_encode_makes(model, tmp_path):
    clip, root = (
        cache_clips.write_clip(tmp_path / "clips/a.avi", 1, frames=8, size=(16, 16)),
        tmp_path / "cache",
    )
    recipe = Recipe(model.spec.plan, ReadOptions(), frames_rule="pad")
    run([str(clip.parent)], root, model, recipe, cache_clips.ONE)
    encode(clip, tmp_path / "a.latent", model)
    (row,) = cache_clips.rows(root)
    entry = Store(root).entry_path(row.key)
    assert facts(entry) == facts(tmp_path / "a.latent") == (8, 1, 3)
    with open_latent(entry) as cached, open_latent(tmp_path / "a.latent") as encoded:
        assert torch.equal(cached.read(0, 3), encoded.read(0, 3))

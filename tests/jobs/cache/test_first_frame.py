"""Latents of a clip's first frame alone: beside its own, and only where they are asked for."""

from math import prod
from pathlib import Path

import pytest
import torch
from helpers import trainer_caches as caches
from helpers.cache_clips import write_clip

from vidlatent.engine.pixels import to_floats
from vidlatent.errors import BadLatentFile
from vidlatent.io.read.source import open_video
from vidlatent.io.sources.disk import DiskSource
from vidlatent.jobs.cache.estimate import estimate_bytes
from vidlatent.jobs.cache.key import ModelIdentity
from vidlatent.jobs.cache.manifest import open_manifest
from vidlatent.jobs.cache.plan import Planner
from vidlatent.jobs.cache.recipe import Recipe
from vidlatent.jobs.cache.verify import verify
from vidlatent.jobs.readback.dataset import LatentDataset
from vidlatent.jobs.reading.survey import Look, look_at


@pytest.fixture(params=["wan-2.1", "ltx-2"])
def model(request):
    return caches.pooling_model(request.param)


def expected(video: Path, model, frames: int) -> torch.Tensor:
    """[t, C, h, w]: the first frame, and then grey: zero in [-1, 1]."""
    with open_video(video) as source:
        first = to_floats(torch.from_numpy(next(source.frames()).rgb)).permute(2, 0, 1)
    clip = torch.zeros(1, 3, frames, *first.shape[1:])
    clip[0, :, 0] = first
    return model.encode(clip).mean[0].transpose(0, 1)


@pytest.mark.parametrize("store", [None, "bf16"])
def test_an_entry_holds_the_first_frame_followed_by_nothing(tmp_path, model, store):
    video = write_clip(tmp_path / "v.avi", 1, frames=20, size=(64, 32))  # 17 of them fit the grid
    root = caches.make_cache(
        tmp_path / "cache", model, [caches.clip(video, "")], first_frame=True, store=store
    )
    manifest = open_manifest(root)
    (row,) = manifest.present_rows()
    with manifest.place(row).open() as latents:
        found = latents.read_first_frame(0, latents.frames)
        assert row.frames == 17 and found.shape == latents.shape
        assert torch.equal(found, expected(video, model, 17).to(found.dtype))
        assert not torch.equal(found, latents.read(0, latents.frames))
    assert list(verify(root)) == [None]


def test_a_clip_that_is_padded_has_as_many_latents_of_its_first_frame(tmp_path, model):
    video = write_clip(tmp_path / "v.avi", 1, frames=6, size=(64, 32))
    clip = caches.clip(video, "")
    root = caches.make_cache(tmp_path / "cache", model, [clip], first_frame=True, frames_rule="pad")
    (row,) = open_manifest(root).present_rows()
    with open_manifest(root).place(row).open() as latents:
        frames = latents.header.grid.frames(latents.frames)
        assert torch.equal(latents.read_first_frame(0, latents.frames), expected(video, model, frames))


def test_a_dry_run_counts_its_bytes(tmp_path, model):
    video = write_clip(tmp_path / "v.avi", 1, frames=9, size=(64, 32))
    clip, recipe = caches.clip(video, ""), Recipe(model.spec.plan, first_frame=True)
    seen = look_at(Look(DiskSource(video)), lambda: None)
    (task,) = Planner(recipe, ModelIdentity.of(model)).plan([(clip, seen)])
    root = caches.make_cache(tmp_path / "cache", model, [clip], first_frame=True)
    (row,) = open_manifest(root).present_rows()
    assert estimate_bytes(9, (32, 64), task, model) == 2 * 4 * prod(row.shape)


def test_without_being_asked_for_it_is_not_there_and_its_entry_is_another(tmp_path):
    model, video = caches.pooling_model("wan-2.1"), write_clip(tmp_path / "v.avi", 1)
    clip = caches.clip(video, "")
    caches.make_cache(tmp_path / "cache", model, [clip])
    caches.make_cache(tmp_path / "cache", model, [clip], first_frame=True)
    manifest = open_manifest(tmp_path / "cache")
    plain, more = sorted(manifest.rows(), key=lambda row: row.bytes)
    assert plain.key != more.key
    with manifest.place(plain).open() as latents:
        with pytest.raises(BadLatentFile, match="cache with first_frame to have them"):
            latents.read_first_frame(0, 1)
        kept = latents.read(0, latents.frames)
    with manifest.place(more).open() as latents:
        assert torch.equal(latents.read(0, latents.frames), kept)


@pytest.mark.parametrize("normalise", [False, True])
def test_samples_of_whole_clips_have_it_beside_their_latents(tmp_path, normalise):
    model, video = caches.pooling_model("wan-2.1"), write_clip(tmp_path / "v.avi", 1)
    root = caches.make_cache(tmp_path / "cache", model, [caches.clip(video, "")], first_frame=True)
    (sample,) = LatentDataset(root, normalise=normalise)
    wanted = expected(video, model, 9)
    if normalise:
        wanted = caches.normalise(wanted.transpose(0, 1), model).transpose(0, 1)
    assert torch.equal(sample["first_frame"], wanted)
    (cropped,) = LatentDataset(root, crop=2, normalise=normalise)
    assert "first_frame" not in cropped

"""Whatever is encoded together, every entry has the bytes that it has alone."""

from dataclasses import replace
from fractions import Fraction

import pytest
import torch
from helpers import cache_clips as clips

from vidlatent.engine.load import load_model
from vidlatent.engine.model import Model
from vidlatent.errors import BadInput
from vidlatent.io.read.source import ReadOptions
from vidlatent.jobs.cache.budget import Memory
from vidlatent.jobs.cache.recipe import Recipe
from vidlatent.jobs.cache.run import run
from vidlatent.jobs.cache.together import Batches, Together

BATCH = 3


def batch_sizes(monkeypatch) -> list[int]:
    """Clips in every call of a network from now on."""
    seen: list[int] = []
    stream = Model.encode_stream

    def watched(model: Model, frames, plan=None):
        frames = list(frames)
        seen.append(len(frames[0]) if frames[0].ndim == 4 else 1)
        return stream(model, frames, plan)

    monkeypatch.setattr(Model, "encode_stream", watched)
    return seen


@pytest.fixture
def videos(tmp_path):
    """Seven clips of one shape, two of another, one that is torn."""
    folder = tmp_path / "videos"
    for n in range(7):
        clips.write_clip(folder / f"{n}.avi", n, frames=9)
    for n in range(7, 9):
        clips.write_clip(folder / f"{n}.avi", n, frames=13)
    torn = clips.write_clip(folder / "torn.avi", 9).read_bytes()
    (folder / "torn.avi").write_bytes(torn[: len(torn) // 2])
    return folder


def test_a_cache_is_the_same_byte_for_byte_whatever_was_encoded_together(tmp_path, videos, monkeypatch):
    clips.cache(videos, tmp_path / "alone")
    seen = batch_sizes(monkeypatch)
    tally = clips.cache(videos, tmp_path / "together", replace(clips.ONE, batch=BATCH))
    assert (tally.done, tally.failed) == (9, 1)
    assert seen.count(BATCH) == 2  # the first one is tried beside its clips alone, the second needs no trial
    assert seen.count(1) == BATCH + 1 + 2  # those, the seventh, and two that fill no batch
    assert clips.objects(tmp_path / "together") == clips.objects(tmp_path / "alone")
    assert clips.truth(tmp_path / "together") == clips.truth(tmp_path / "alone")


@pytest.mark.parametrize(("threads", "size"), [(1, (128, 128)), (2, (96, 64))])
def test_the_bundled_model_gives_the_same_bits_whether_its_kernels_agree_or_not(tmp_path, threads, size):
    """At 128x128 on one thread they do, at 96x64 they do not (measured): entries never tell."""
    folder, before = tmp_path / "videos", torch.get_num_threads()
    for n in range(4):
        clips.write_clip(folder / f"{n}.avi", n, frames=5, size=size)
    model = load_model("pocket", "cpu")
    recipe = Recipe(model.spec.plan, ReadOptions())
    try:
        for batch in (1, 2):
            options = replace(clips.ONE, batch=batch, threads=threads)
            run([str(folder)], tmp_path / str(batch), model, recipe, options)
    finally:
        torch.set_num_threads(before)
    assert clips.objects(tmp_path / "1") == clips.objects(tmp_path / "2")


def test_where_bits_differ_clips_go_alone(tmp_path, videos, monkeypatch):
    clips.cache(videos, tmp_path / "alone")
    joint = Together._joint
    tried = []

    def rounding(self, pixels, plan):
        tried.append(len(pixels))
        return [[torch.nextafter(w, w + 1) for w in windows] for windows in joint(self, pixels, plan)]

    monkeypatch.setattr(Together, "_joint", rounding)
    clips.cache(videos, tmp_path / "together", replace(clips.ONE, batch=BATCH))
    assert tried == [BATCH]
    assert clips.objects(tmp_path / "together") == clips.objects(tmp_path / "alone")


def test_a_batch_that_does_not_fit_into_memory_goes_clip_by_clip(tmp_path, videos, monkeypatch):
    def full(*_):
        raise torch.OutOfMemoryError

    monkeypatch.setattr(Together, "_joint", full)
    assert clips.cache(videos, tmp_path / "cache", replace(clips.ONE, batch=BATCH)).done == 9


def test_clips_too_long_to_be_held_are_streamed(tmp_path, videos, monkeypatch):
    clips.cache(videos, tmp_path / "alone")
    monkeypatch.setattr("vidlatent.jobs.cache.budget.HELD_BYTES", BATCH * 10 * 32 * 32 * 3)  # not 13 frames
    seen = batch_sizes(monkeypatch)
    clips.cache(videos, tmp_path / "together", replace(clips.ONE, batch=BATCH))
    assert seen.count(BATCH) == 2
    assert clips.objects(tmp_path / "together") == clips.objects(tmp_path / "alone")


def test_parts_of_one_video_go_together(tmp_path, monkeypatch):
    clips.write_clip(tmp_path / "videos/clip.avi", 1, frames=24)
    model, seen = load_model("toy", "cpu"), batch_sizes(monkeypatch)
    recipe = replace(clips.recipe(), chunk_s=Fraction(4, 25))
    for batch in (1, 2):
        run([str(tmp_path / "videos")], tmp_path / str(batch), model, recipe, replace(clips.ONE, batch=batch))
    assert 2 in seen and clips.objects(tmp_path / "1") == clips.objects(tmp_path / "2")


def test_what_waits_is_bounded_in_bytes():
    waiting = Batches(limit=100)
    assert waiting.add("a", ("small",), 30, 4) is None
    assert waiting.add("b", ("large",), 60, 4) is None
    assert waiting.add("c", ("small",), 20, 4) == ["b"]
    assert waiting.add("d", ("small",), 1, 3) == ["a", "c", "d"]
    assert waiting.add("e", ("large",), 60, 4) is None and list(waiting.rest()) == [["e"]]


def test_max_memory_bounds_the_batch(monkeypatch):
    monkeypatch.setattr("vidlatent.jobs.cache.budget.window_bytes", lambda *_, **__: 1000)
    model = load_model("toy", "cpu")
    for room, count in ((500, 1), (1000, 1), (3500, 3), (99000, 8)):
        assert Memory(0, room).batch(model, model.spec.plan, (32, 32 + room), 8) == count
    with pytest.raises(BadInput):
        Memory(0, 500).refuse_too_large(model, model.spec.plan, (32, 532), "clip")

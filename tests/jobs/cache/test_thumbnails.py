"""Thumbnails: a few frames at equal distances, however many there are, and no entry is other for them."""

from dataclasses import replace

import av
import numpy as np
import pytest
from helpers import cache_clips as clips

from vidlatent.jobs.cache.gc import find_garbage
from vidlatent.jobs.cache.store import Store
from vidlatent.jobs.cache.thumbnails import HEIGHT_PX, FilmStrip, shrink


def grey(level: int, dtype=np.uint8) -> np.ndarray:
    return np.full((48, 96, 3), level, dtype)


@pytest.mark.parametrize(("frames", "picked"), [(1, 1), (2, 2), (4, 4), (5, 4), (63, 4), (200, 4)])
def test_frames_are_picked_at_equal_distances(frames, picked):
    strip = FilmStrip(4)
    assert len(list(strip.watch(grey(n) for n in range(frames)))) == frames, "all frames pass by"
    levels = [int(small.mean().round()) for small in strip.pick()]
    assert len(levels) == picked and levels[0] == 0
    assert len(strip._held) < 16, "few are held"
    if frames > 4:
        steps = np.diff(levels)
        assert steps.min() >= frames // 6 and levels[-1] >= frames * 3 // 4


def test_thumbnails_are_small_and_8_bit():
    small = shrink(grey(40_000, np.uint16))
    assert small.shape == (HEIGHT_PX, 2 * HEIGHT_PX, 3) and small.dtype == np.uint8
    assert abs(int(small.mean()) - (40_000 >> 8)) <= 1


def test_they_lie_beside_the_entries_and_change_none(tmp_path):
    folder = clips.write_clips(tmp_path / "videos", 2)
    clips.cache(folder, tmp_path / "plain")
    root = tmp_path / "cache"
    clips.cache(folder, root, replace(clips.ONE, thumbnails=3))
    assert clips.objects(root) == clips.objects(tmp_path / "plain")
    for row in clips.rows(root):
        with av.open(str(Store(root).thumbnail_path(row.key))) as picture:
            stream = picture.streams.video[0]
            assert (stream.width, stream.height) == (3 * HEIGHT_PX, HEIGHT_PX)
    assert find_garbage(root) == []
    stray = Store(root).thumbnail_path("f" * 64)
    stray.parent.mkdir(exist_ok=True)
    stray.write_bytes(b"x")
    assert [item.path for item in find_garbage(root)] == [stray]

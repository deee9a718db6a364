"""Clips are read ahead, in turn, and one that is let go takes no other with it."""

import time

import pytest
from helpers import cache_clips as clips

from vidlatent.io.read.source import ReadOptions
from vidlatent.io.sources.disk import DiskSource
from vidlatent.jobs.reading.messages import Read
from vidlatent.jobs.reading.readers import Readers

pytestmark = pytest.mark.usefixtures("processes_as_in_real_life")
FRAMES = 9
MESSAGES = FRAMES + 2  # of a clip: what it is, its frames, its end
AMPLE_BYTES = 1 << 24


@pytest.fixture
def few(tmp_path):
    return [clips.write_clip(tmp_path / f"{n}.avi", n, FRAMES) for n in range(5)]


def question(path) -> Read:
    return Read(DiskSource(path), ReadOptions())


def count(video) -> int:
    with video:
        return sum(1 for _ in video.frames())


def heard(readers: Readers, messages: int) -> bool:
    """Whether a lone worker has said so much, within a minute."""
    deadline = time.monotonic() + 60
    while readers._workers[0].heard < messages and time.monotonic() < deadline:
        time.sleep(0.01)
    return readers._workers[0].heard >= messages


def test_a_lone_worker_reads_the_next_clip_while_the_model_has_the_former(few):
    with Readers(1, AMPLE_BYTES) as readers:
        videos = readers.videos(few, question)
        _, first = next(videos)
        assert heard(readers, 2 * MESSAGES)  # nobody has taken a frame yet
        assert count(first) == FRAMES
        assert [count(video) for _, video in videos] == [FRAMES] * 4


@pytest.mark.parametrize("workers", [1, 2, 3])
def test_clips_come_in_their_order_whoever_reads_them(few, workers):
    with Readers(workers, AMPLE_BYTES) as readers:
        names = [(path.name, count(video)) for path, video in readers.videos(few, question)]
    assert names == [(path.name, FRAMES) for path in few]


@pytest.mark.parametrize("limit", [1, AMPLE_BYTES], ids=["while it is read", "when it was read"])
def test_a_clip_that_is_let_go_takes_no_other_with_it(few, limit):
    with Readers(1, limit) as readers:
        videos = readers.videos(few, question)
        next(videos)
        assert limit == 1 or heard(readers, MESSAGES)
        assert [count(video) for _, video in videos] == [FRAMES] * 4


def test_a_run_that_ends_early_ends_its_readers(few):
    with Readers(2, 1) as readers:
        videos = readers.videos(few, question)
        next(videos)
        began = time.monotonic()
        videos.close()
        assert time.monotonic() - began < 30

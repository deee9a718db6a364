"""A video as Python code uses it: iterated, measured, read by the number of its frames."""

import io

import numpy as np
import pytest
import torch
from helpers import video_clips

import vidlatent
from vidlatent.errors import BadInput, UsageError
from vidlatent.io.write.sink import open_sink

COUNT = 12


@pytest.fixture(scope="module")
def path(tmp_path_factory):
    return video_clips.make(tmp_path_factory.mktemp("clip") / "a.mp4", video_clips.Recipe())


@pytest.fixture(scope="module")
def folder(path, tmp_path_factory):
    """The same frames as a folder of images."""
    target = tmp_path_factory.mktemp("clip") / "frames"
    with vidlatent.open_video(path) as video, open_sink(f"{target}/", video.info.picture()) as sink:
        for frame in video:
            sink.write(frame.rgb, frame.pts, frame.duration)
    return target


def test_a_video_can_be_iterated_again_and_again(path):
    with vidlatent.open_video(path) as video:
        first, second = ([frame.rgb for frame in video] for _ in range(2))
    assert np.array_equal(first, second)
    assert len(first) == COUNT


def test_frames_are_read_by_their_numbers(path):
    with vidlatent.open_video(path) as video:
        frames = torch.from_numpy(np.stack([frame.rgb for frame in video]))
        assert torch.equal(video.read(), frames)
        assert torch.equal(video.read(3, 7), frames[3:7])
        assert torch.equal(video.read(10), frames[10:])


def test_a_clip_for_a_model_is_floats_around_zero(path):
    with vidlatent.open_video(path) as video:
        clip, frames = video.read(0, 5, layout="BCTHW"), video.read(0, 5)
    assert clip.shape == (1, 3, 5, 48, 64)
    assert torch.allclose(clip[0].movedim(0, -1), frames / 127.5 - 1, atol=1e-6)  # a rounding
    assert random_latents(clip).shape == (1, 768, 2, 6, 8)


def random_latents(clip: torch.Tensor) -> torch.Tensor:
    return vidlatent.load_model("toy", device="cpu").encode(clip).mean


@pytest.mark.parametrize(
    ("start", "stop", "has"), [(5, 20, "12"), (12, None, "at most 12"), (20, 30, "at most 20")]
)
def test_frames_that_are_not_there_are_not_made_up(path, start, stop, has):
    with vidlatent.open_video(path) as video, pytest.raises(BadInput, match=f"asked for, it has {has}$"):
        video.read(start, stop)


@pytest.mark.parametrize("span", [(-1, 5), (5, 5), (5, 2)])
def test_numbers_that_make_no_span_are_refused(path, span):
    with vidlatent.open_video(path) as video, pytest.raises(UsageError, match="count from 0"):
        video.read(*span)


def test_a_layout_is_one_of_two(path):
    with vidlatent.open_video(path) as video, pytest.raises(UsageError, match="layout TCHW: unknown"):
        video.read(layout="TCHW")


def test_the_length_is_known_where_frames_were_counted(path, folder):
    with vidlatent.open_video(folder) as video:
        assert len(video) == COUNT
    with vidlatent.open_video(path) as video:
        with pytest.raises(TypeError, match="once all were read"):
            len(video)
        assert video, "a video is true, whatever its length"
        video.read()
        assert len(video) == COUNT


def test_a_video_says_what_it_is(path):
    with vidlatent.open_video(path) as video:
        assert repr(video) == f"Video({path}: 64x48, 25 frames/s, h264)"
        video.read()
        assert "12 frames of 64x48" in repr(video)
    assert repr(video).endswith("h264, closed)")


def test_a_closed_video_says_so(path):
    with vidlatent.open_video(path) as video:
        frames = iter(video)
        next(frames)
    for use in (video.read, lambda: next(frames), lambda: list(video)):
        with pytest.raises(UsageError, match="this video was closed"):
            use()


def test_a_pipe_is_read_once(path):
    header = b"YUV4MPEG2 W16 H16 F25:1 C444\n"
    stream = io.BytesIO(header + b"FRAME\n" + bytes(16 * 16 * 3))
    with vidlatent.open_video("pipe", stream=stream) as video:
        assert len(list(video)) == 1
        with pytest.raises(UsageError, match="a pipe gives its frames once"):
            video.read()

"""Frames that come bare, raw or as YUV4MPEG, from files and pipes; and ends that are cut off."""

import subprocess
import sys
from fractions import Fraction

import av
import numpy as np
import pytest
from helpers import video_clips as clips

from vidlatent.errors import BadVideo, UsageError
from vidlatent.io.read.source import RawFrames, ReadOptions, open_video

SIZE = (64, 48)
COUNT = 5
READ = """
import hashlib, sys
from fractions import Fraction
from vidlatent.errors import VidlatentError
from vidlatent.io.read.source import RawFrames, ReadOptions, open_video
raw = RawFrames(64, 48, sys.argv[1], Fraction(25)) if len(sys.argv) > 1 else None
try:
    with open_video("-", ReadOptions(raw=raw)) as video:
        frames = list(video.frames())
    print(len(frames), hashlib.sha256(b"".join(f.rgb.tobytes() for f in frames)).hexdigest())
except VidlatentError as e:
    print(e)
"""


def planes(pix_fmt: str) -> bytes:
    """The frames of a scene, each as its planes one after the other."""
    parts = []
    for index in range(COUNT):
        frame = av.VideoFrame.from_ndarray(clips.scene(index, SIZE), "rgb24").reformat(format=pix_fmt)
        parts.append(frame.to_ndarray().tobytes())
    return b"".join(parts)


def y4m(data: bytes) -> bytes:
    """4:2:0 frames under YUV4MPEG's headers."""
    size = len(data) // COUNT
    frames = (b"FRAME\n" + data[at : at + size] for at in range(0, len(data), size))
    return b"YUV4MPEG2 W64 H48 F25:1 Ip A1:1 C420mpeg2\n" + b"".join(frames)


def read_from_pipe(data: bytes, *pix_fmt: str) -> str:
    command = [sys.executable, "-c", READ, *pix_fmt]
    return subprocess.run(command, input=data, capture_output=True, check=True).stdout.decode().strip()


def raw(pix_fmt: str, rate: Fraction = Fraction(25), **options) -> ReadOptions:
    return ReadOptions(raw=RawFrames(*SIZE, pix_fmt, rate), **options)


def test_raw_frames_are_the_pixels_they_hold(tmp_path):
    (tmp_path / "x.rgb").write_bytes(planes("rgb24"))
    with open_video(tmp_path / "x.rgb", raw("rgb24", Fraction(30000, 1001))) as video:
        frames = list(video.frames())
        times = [frame.pts * video.info.time_base for frame in frames]
    assert times == [Fraction(1001 * k, 30000) for k in range(COUNT)]
    assert all(np.array_equal(f.rgb, clips.scene(k, SIZE)) for k, f in enumerate(frames))


def test_deep_raw_frames_keep_their_bits(tmp_path):
    (tmp_path / "x.yuv").write_bytes(planes("yuv420p10le"))
    with open_video(tmp_path / "x.yuv", raw("yuv420p10le")) as video:
        assert video.info.bit_depth == 10 and next(video.frames()).rgb.dtype == np.uint16


def test_raw_chroma_lies_where_codecs_put_it(tmp_path):
    """On the left, as in the same frames under a YUV4MPEG header that says so."""
    (tmp_path / "x.yuv").write_bytes(planes("yuv420p"))
    (tmp_path / "x.y4m").write_bytes(y4m(planes("yuv420p")))
    with open_video(tmp_path / "x.yuv", raw("yuv420p")) as a, open_video(tmp_path / "x.y4m") as b:
        assert all(np.array_equal(x.rgb, y.rgb) for x, y in zip(a.frames(), b.frames(), strict=True))


def test_a_pipe_gives_the_same_as_a_file():
    said = read_from_pipe(planes("yuv420p"), "yuv420p")
    assert said.startswith(f"{COUNT} ") and said == read_from_pipe(y4m(planes("yuv420p")))


@pytest.mark.parametrize("kept", [6, 100, 4607])
def test_a_short_last_frame_is_an_error_that_names_it(tmp_path, kept):
    """libav drops what is left of a cut YUV4MPEG frame without a word."""
    whole = planes("yuv420p")
    (tmp_path / "x.y4m").write_bytes(y4m(whole)[: kept - 4608])
    (tmp_path / "x.yuv").write_bytes(whole[: kept - 4608])
    for path, options in ((tmp_path / "x.y4m", ReadOptions()), (tmp_path / "x.yuv", raw("yuv420p"))):
        with open_video(path, options) as video, pytest.raises(BadVideo, match=r"frame 4: cut off after"):
            list(video.frames())


def test_a_short_last_frame_can_be_left_out(tmp_path):
    (tmp_path / "x.yuv").write_bytes(planes("yuv420p")[:-1])
    with open_video(tmp_path / "x.yuv", raw("yuv420p", allow_truncated=True)) as video:
        assert len(list(video.frames())) == COUNT - 1
        assert "4 frames kept" in " ".join(video.notices)


def test_a_short_last_frame_is_noticed_in_a_pipe():
    whole = planes("yuv420p")
    assert "-: frame 4: cut off after 4,607 bytes" in read_from_pipe(whole[:-1], "yuv420p")
    assert "-: frame 4: cut off after" in read_from_pipe(y4m(whole)[:-1])


def test_another_video_in_a_pipe_is_refused_with_advice(tmp_path):
    clip = clips.make(tmp_path / "x.mp4", clips.Recipe())
    said = read_from_pipe(clip.read_bytes())
    assert said.startswith("-: not YUV4MPEG") and "by raw (WxH:PIX_FMT:FPS)" in said


@pytest.mark.parametrize("pix_fmt", ["nonsense", "cuda", "pal8"])
def test_a_layout_that_cannot_be_is_refused(tmp_path, pix_fmt):
    (tmp_path / "x.yuv").write_bytes(planes("yuv420p"))
    with pytest.raises(UsageError, match=r"^raw"):
        open_video(tmp_path / "x.yuv", raw(pix_fmt))

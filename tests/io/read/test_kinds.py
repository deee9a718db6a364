"""Kinds of video that have a rule of their own: GIF, transparency, elementary streams, times before zero."""

from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest
from helpers import video_clips as clips

from vidlatent.io.read.source import open_video

Recipe = clips.Recipe
CODED = 12  # levels that a lossy codec may be off in the middle of a smooth scene


def read(path: Path) -> tuple[list, list[Fraction], list[str], object]:
    with open_video(path) as video:
        frames = list(video.frames())
        return frames, [f.pts * video.info.time_base for f in frames], video.notices, video.info


def test_gif_keeps_its_uneven_times(tmp_path):
    path = clips.make(tmp_path / "x.gif", Recipe(codec="gif", pix_fmt="rgb8", stamps=(0, 40, 200, 220)))
    frames, times, notices, info = read(path)
    assert times == [Fraction(k, 100) for k in (0, 4, 20, 22)]
    assert frames[0].rgb.shape == (48, 64, 3) and info.colour.matrix == "gbr"
    assert not any("transparency" in notice for notice in notices)


@pytest.mark.parametrize(("codec", "pix_fmt"), [("ffv1", "bgra"), ("ffv1", "yuva420p")])
def test_transparency_is_dropped_and_it_is_said(tmp_path, codec, pix_fmt):
    path = clips.make(tmp_path / "x.mkv", Recipe(codec=codec, pix_fmt=pix_fmt, stamps=(0, 40)))
    frames, _, notices, _ = read(path)
    assert "transparency dropped" in notices
    assert np.abs(frames[1].rgb.astype(int) - clips.scene(1, (64, 48)))[4:-4, 4:-4].max() <= CODED


def elementary(path: Path, codec: str, kind: str) -> Path:
    """Twelve frames at 25 a second as a bare stream."""
    with av.open(str(path), "w", format=kind) as container:
        stream = container.add_stream(codec, 25)
        (stream.width, stream.height, stream.pix_fmt) = (64, 48, "yuv420p")
        for index in range(12):
            frame = av.VideoFrame.from_ndarray(clips.scene(index, (64, 48)), "rgb24").reformat(
                format="yuv420p"
            )
            frame.pts = index
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    return path


@pytest.mark.parametrize(("codec", "kind"), [("libx264", "h264"), ("libx265", "hevc")])
def test_annex_b_streams_get_times_from_their_rate_and_it_is_said(tmp_path, codec, kind):
    """They have no times, no length and no index; B-frames come out in order."""
    frames, times, notices, info = read(elementary(tmp_path / "x.raw", codec, kind))
    assert times == [Fraction(k, 25) for k in range(12)]
    assert info.header_frames is None
    assert any("12 frames without a timestamp" in notice for notice in notices)
    assert in_order(frames)


@pytest.mark.parametrize("codec", ["mpeg1video", "mpeg2video"])
def test_mpeg_elementary_streams_lose_no_frame(tmp_path, codec):
    """Their times are what libav makes of decoding order, one frame late at most."""
    frames, times, _, info = read(elementary(tmp_path / "x.mpv", codec, codec))
    assert all(0 <= time - Fraction(k, 25) <= Fraction(1, 25) for k, time in enumerate(times))
    assert info.header_frames is None and len(frames) == 12
    assert in_order(frames)


def in_order(frames: list) -> bool:
    """Whether each frame looks like the one of its number."""
    return all(
        np.abs(frame.rgb.astype(int) - clips.scene(index, (64, 48))).mean() < CODED
        for index, frame in enumerate(frames)
    )


def test_times_before_zero_are_kept(tmp_path):
    path = tmp_path / "x.mkv"
    with av.open(str(path), "w", container_options={"avoid_negative_ts": "disabled"}) as container:
        stream = container.add_stream("ffv1", 25)
        stream.width, stream.height, stream.pix_fmt = 64, 48, "yuv420p"
        for index in range(4):
            frame = av.VideoFrame.from_ndarray(clips.scene(index, (64, 48)), "rgb24").reformat(
                format="yuv420p"
            )
            frame.pts, frame.time_base = index - 2, Fraction(1, 25)
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    frames, times, _, _ = read(path)
    assert times == [Fraction(40 * k, 1000) for k in (-2, -1, 0, 1)]
    assert all(frame.duration > 0 for frame in frames)


def test_a_cover_picture_is_not_the_video(tmp_path):
    path = tmp_path / "x.mp4"
    with av.open(str(path), "w") as container:
        cover, film = container.add_stream("png", 1), container.add_stream("libx264", 25)
        (cover.width, cover.height, cover.pix_fmt) = (16, 16, "rgb24")
        (film.width, film.height, film.pix_fmt) = (64, 48, "yuv420p")
        cover.disposition = av.stream.Disposition.attached_pic
        container.mux(cover.encode(av.VideoFrame.from_ndarray(clips.scene(0, (16, 16)), "rgb24")))
        container.mux(cover.encode(None))
        for index in range(3):
            frame = av.VideoFrame.from_ndarray(clips.scene(index, (64, 48)), "rgb24").reformat(
                format="yuv420p"
            )
            frame.pts = index
            container.mux(film.encode(frame))
        container.mux(film.encode(None))
    frames, _, notices, info = read(path)
    assert (info.width, info.height, len(frames), info.video_streams) == (64, 48, 3, 1)
    assert not any("video streams" in notice for notice in notices)

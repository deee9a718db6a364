"""The container's own cropping windows: MP4's clean aperture, Matroska's PixelCrop."""

import struct
from fractions import Fraction
from functools import partial
from pathlib import Path

import av
import numpy as np
import pytest
from helpers import video_clips as clips

from vidlatent.io.picture.cropping import Insets, read_insets
from vidlatent.io.read.source import ReadOptions, describe_reading, open_video
from vidlatent.io.sources.disk import DiskSource
from vidlatent.io.sources.source import look_into

NESTED = (b"moov", b"trak", b"mdia", b"minf", b"stbl", b"stsd", b"avc1")
# 50x41 pixels, the centre 2 to the right of and 2.5 above the middle of 64x48.
WINDOW = ((50, 1), (41, 1), (2, 1), (-5, 2))
LEFT, TOP, RIGHT, BOTTOM = 9, 1, 5, 6


def with_clap(path: Path, *numbers: tuple[int, int]) -> Path:
    """Put a clean aperture into the one track of an MP4 whose index lies at its end."""
    data = bytearray(path.read_bytes())
    clap = struct.pack(">I4sIIIIiIiI", 40, b"clap", *(n for fraction in numbers for n in fraction))
    at = -1
    for name in NESTED:
        at = data.index(name, at + 1)
        size = struct.unpack_from(">I", data, at - 4)[0]
        struct.pack_into(">I", data, at - 4, size + len(clap))
    data[at - 4 + size : at - 4 + size] = clap  # the last box of the sample entry
    path.write_bytes(data)
    return path


def remuxed(source: Path, target: Path) -> Path:
    """The same packets in another container, libav carrying over what it knows of the window."""
    with av.open(str(source)) as old, av.open(str(target), "w") as new:
        stream = new.add_stream_from_template(old.streams.video[0])
        for packet in old.demux(video=0):
            if packet.dts is not None:
                packet.stream = stream
                new.mux(packet)
    return target


@pytest.fixture
def plain(tmp_path) -> Path:
    return clips.make(tmp_path / "plain.mp4", clips.Recipe(stamps=(0, 40, 80)))


def cropped(plain: Path, folder: Path, suffix: str) -> Path:
    copy = folder / "cropped.mp4"
    copy.write_bytes(plain.read_bytes())
    with_clap(copy, *WINDOW)
    return copy if suffix == ".mp4" else remuxed(copy, folder / f"cropped{suffix}")


@pytest.mark.parametrize("suffix", [".mp4", ".mkv"])
def test_the_window_is_cut_to_the_pixel_and_said(plain, tmp_path, suffix):
    path = cropped(plain, tmp_path, suffix)
    with open_video(path) as video:
        got = list(video.frames())
        assert (video.info.width, video.info.height) == (50, 41)
        assert "cropping window of the container: 50x41 at (9, 1)" in video.notices
    for whole, cut in zip(clips.frames(plain), got, strict=True):
        assert np.array_equal(cut.rgb, whole.rgb[TOP:-BOTTOM, LEFT:-RIGHT])


def test_the_window_turns_with_the_picture(tmp_path):
    recipe = clips.Recipe(turn=(90, False, False), stamps=(0,), sar=Fraction(4, 3))
    plain = clips.make(tmp_path / "plain.mp4", recipe)
    (whole,) = clips.frames(plain)
    with open_video(with_clap(plain, *WINDOW)) as video:
        assert (video.info.width, video.info.height, video.info.sar) == (41, 50, Fraction(3, 4))
        (cut,) = video.frames()
    upright = np.rot90(whole.rgb, -1)
    assert np.array_equal(cut.rgb, np.rot90(upright[TOP:-BOTTOM, LEFT:-RIGHT]))


def test_deep_pictures_are_cut_too(tmp_path):
    plain = clips.make(tmp_path / "x.mp4", clips.Recipe(pix_fmt="yuv420p10le", stamps=(0,)))
    (whole,) = clips.frames(plain)
    (cut,) = clips.frames(with_clap(plain, *WINDOW))
    assert cut.rgb.dtype == np.uint16
    assert np.array_equal(cut.rgb, whole.rgb[TOP:-BOTTOM, LEFT:-RIGHT])


def test_crop_and_size_are_meant_within_the_window(plain, tmp_path):
    path = cropped(plain, tmp_path, ".mp4")
    cut = clips.frames(path, crop=(1, 2, 8, 6))[0].rgb
    assert np.array_equal(cut, clips.frames(path)[0].rgb[2:8, 1:9])


def test_the_window_and_what_was_asked_are_on_record(plain, tmp_path):
    options = ReadOptions(size=(20, 10), fps=Fraction(5), threads=1)
    with open_video(cropped(plain, tmp_path, ".mp4"), options) as video:
        assert video.info.window == (LEFT, TOP, 50, 41)
        assert describe_reading(video.info, options) == {
            "window": [LEFT, TOP, 50, 41],
            "rotation": 0,
            "flip": False,
            "asked": {"size": [20, 10], "fps": "5/1"},
        }


def test_a_window_as_large_as_the_picture_changes_nothing(plain):
    before = clips.frames(plain)
    with open_video(with_clap(plain, (64, 1), (48, 1), (0, 1), (0, 1))) as video:
        assert np.array_equal(next(video.frames()).rgb, before[0].rgb)
        assert not any("window" in notice for notice in video.notices)


@pytest.mark.parametrize(
    "numbers",
    [
        ((65, 1), (48, 1), (0, 1), (0, 1)),
        ((50, 1), (40, 1), (8, 1), (0, 1)),
        ((50, 0), (40, 1), (0, 1), (0, 1)),
        ((0, 1), (40, 1), (0, 1), (0, 1)),
    ],
)
def test_a_window_that_cannot_be_is_said_and_not_applied(plain, numbers):
    with open_video(with_clap(plain, *numbers)) as video:
        assert next(video.frames()).rgb.shape == (48, 64, 3)
        assert any("does not fit the picture" in notice for notice in video.notices)


def test_half_a_pixel_is_rounded_up(plain):
    """50.5 pixels are 51, and the 6.75 to their left and 3.5 above them are 7 and 4."""
    with_clap(plain, (101, 2), (41, 1), (0, 1), (0, 1))
    found = look_into(DiskSource(plain), partial(read_insets, track=(1, 0), size=(64, 48)))
    assert found == Insets(7, 4, 6, 3)


def test_boxes_with_lengths_of_64_bits_are_looked_into(plain):
    """Long films have them: the index behind gigabytes of pictures may be such a box, too."""
    before = clips.frames(plain)
    data = with_clap(plain, *WINDOW).read_bytes()
    at = data.index(b"moov") - 4
    length = int.from_bytes(data[at : at + 4], "big") + 8
    long = struct.pack(">I4sQ", 1, b"moov", length)
    plain.write_bytes(data[:at] + long + data[at + 8 :])
    assert np.array_equal(clips.frames(plain)[0].rgb, before[0].rgb[TOP:-BOTTOM, LEFT:-RIGHT])


@pytest.mark.parametrize("length", [0, 2, 7, 15, (1 << 31) - 1])
def test_a_box_whose_length_cannot_be_ends_the_search(plain, length):
    data = with_clap(plain, *WINDOW).read_bytes()
    at = data.index(b"trak") - 4
    plain.write_bytes(data[:at] + struct.pack(">I", length) + data[at + 4 :])
    track = (1, 0)
    found = look_into(DiskSource(plain), partial(read_insets, track=track, size=(64, 48)))
    assert found == (Insets(LEFT, TOP, RIGHT, BOTTOM) if length == 0 else Insets())  # 0: to the end


def test_only_the_track_that_is_read_is_cut(tmp_path):
    """The window belongs to the second of two tracks."""
    single = with_clap(clips.make(tmp_path / "b.mp4", clips.Recipe(stamps=(0,))), *WINDOW)
    other = clips.make(tmp_path / "a.mp4", clips.Recipe(stamps=(0,)))
    for suffix in (".mp4", ".mkv"):
        both = joined([other, single], tmp_path / f"both{suffix}")
        sizes = []
        for stream in range(2):
            with open_video(both, ReadOptions(stream=stream)) as video:
                sizes.append((video.info.width, video.info.height))
        assert sizes == [(64, 48), (50, 41)]


def joined(sources: list[Path], target: Path) -> Path:
    containers = [av.open(str(source)) for source in sources]
    with av.open(str(target), "w") as new:
        streams = [new.add_stream_from_template(c.streams.video[0]) for c in containers]
        for container, stream in zip(containers, streams, strict=True):
            for packet in container.demux(video=0):
                if packet.dts is not None:
                    packet.stream = stream
                    new.mux(packet)
            container.close()
    return target


def test_insets_know_what_fits():
    assert Insets(1, 2, 3, 4).size(64, 48) == (60, 42)
    assert not Insets(30, 0, 34, 0).fits(64, 48) and not Insets(-1).fits(64, 48)
    assert not Insets() and Insets(bottom=1)

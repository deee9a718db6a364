"""Files of kinds that people report: each gives all its frames, or a sentence that says what it is."""

import os
import struct
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest
from helpers import video_clips as clips
from helpers.paths import MEDIA

from vidlatent.errors import BadVideo, UsageError
from vidlatent.io.picture.layers import has_second_layer
from vidlatent.io.picture.pages import count_pages
from vidlatent.io.picture.timeline import COARSE, MOST_TICKS, Timeline, bound_rate
from vidlatent.io.read.image_folder import find_gap
from vidlatent.io.read.source import ReadOptions, open_video
from vidlatent.io.sources.disk import DiskSource
from vidlatent.io.sources.source import look_into
from vidlatent.io.write.images import encode_image

ODD = MEDIA / "odd"
Recipe = clips.Recipe


def read(path: Path, **options) -> tuple[int, str]:
    """The number of frames, and all notices."""
    with open_video(path, ReadOptions(**options)) as video:
        return len(list(video.frames())), "; ".join(video.notices)


def cut_behind_the_keyframe(source: Path, target: Path, packets: int) -> Path:
    """The same stream without its first packets, as a recording that began too late."""
    with av.open(str(source)) as old, av.open(str(target), "w") as new:
        copy = new.add_stream_from_template(old.streams.video[0], opaque=True)
        for n, packet in enumerate(old.demux(video=0)):
            if packet.dts is not None and n >= packets:
                packet.stream = copy
                new.mux(packet)
    return target


@pytest.mark.parametrize("codec", ["mpeg4", "libvpx-vp9", "libvpx", "libsvtav1"])
def test_a_stream_that_begins_between_keyframes_begins_at_the_next_one(tmp_path, codec):
    """MPEG-4 gave grey smears in their place, VP8, VP9 and AV1 nothing at all."""
    stamps = tuple(range(0, 1200, 40))
    whole = tmp_path / "whole.mkv"
    with av.open(str(whole), "w") as container:
        stream = container.add_stream(codec, 25, options={"lag-in-frames": "0"} if "vpx" in codec else {})
        stream.width, stream.height, stream.pix_fmt = 64, 64, "yuv420p"
        stream.codec_context.gop_size = 10
        for index in range(len(stamps)):
            frame = av.VideoFrame.from_ndarray(clips.scene(index, (64, 64)), "rgb24")
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    late = cut_behind_the_keyframe(whole, tmp_path / "late.mkv", 5)
    wanted = clips.frames(whole)
    got = clips.frames(late)
    assert 0 < len(got) < len(wanted) - 5
    assert all(np.array_equal(a.rgb, b.rgb) for a, b in zip(got, wanted[-len(got) :], strict=True))
    assert "before the first whole picture dropped" in read(late)[1]
    assert "dropped" not in read(whole)[1]


def test_an_animated_avif_is_its_animation_and_not_its_still():
    assert read(ODD / "07_animated_avif.avif")[0] == 5


def test_a_grid_of_tiles_is_not_taken_for_its_first_tile(shared):
    with pytest.raises(BadVideo, match=r"one picture in 4 tiles.*\nhint: convert it"):
        open_video(shared / "odd" / "01_grid_apple_like.heic")


def test_dolby_vision_of_profile_5_is_refused_unless_a_matrix_is_assumed():
    with pytest.raises(BadVideo, match=r"Dolby Vision profile 5.*\nhint: .*assume_matrix"):
        open_video(ODD / "08_dolby_vision_p5.mp4")
    assert read(ODD / "08_dolby_vision_p5.mp4", assume_matrix="bt709")[0] == 5


def test_a_pixel_aspect_that_changes_is_said():
    frames, notices = read(ODD / "09_sar_change.ts")
    assert frames == 20 and "the pixel aspect changes from 1 to 4/3" in notices


def test_sound_of_an_unknown_codec_is_said_to_be_left_out():
    assert "sound track 2 is of an unknown codec: left out" in read(ODD / "14_apac_second_track.mov")[1]


def tiff_of(pages: int, path: Path) -> Path:
    """A TIFF of one black pixel on each page."""
    data = bytearray(b"II*\0\x08\0\0\0")
    for page in range(pages):
        shorts = ((256, 1), (257, 1), (258, 8), (259, 1), (262, 1), (277, 1), (278, 1))
        tags = sorted([*((tag, 3, 1, value) for tag, value in shorts), (273, 4, 1, 8), (279, 4, 1, 1)])
        after = len(data) + 2 + 12 * len(tags) + 4
        data += struct.pack("<H", len(tags)) + b"".join(struct.pack("<HHII", *tag) for tag in tags)
        data += struct.pack("<I", after if page + 1 < pages else 0)
    path.write_bytes(data)
    return path


def test_an_image_of_several_pages_is_said_to_be_one(tmp_path):
    assert "an image of 5 pictures: only the first is read" in read(tiff_of(5, tmp_path / "x.tif"))[1]
    assert "pictures" not in read(tiff_of(1, tmp_path / "y.tif"))[1]


def test_pages_that_lead_in_a_circle_end(tmp_path):
    path = tiff_of(1, tmp_path / "x.tif")
    data = bytearray(path.read_bytes())
    data[-4:] = struct.pack("<I", 8)
    path.write_bytes(data)
    assert look_into(DiskSource(path), count_pages) == 1


def test_the_frames_of_an_animated_webp_are_counted(tmp_path):
    part = b"ANMF" + struct.pack("<I", 3) + b"abc\0"
    (tmp_path / "x.webp").write_bytes(b"RIFF\0\0\0\0WEBP" + part * 3)
    assert look_into(DiskSource(tmp_path / "x.webp"), count_pages) == 3


def test_hidden_files_are_no_frames(tmp_path):
    """macOS leaves `._0001.png` beside 0001.png on disks that are not its own."""
    for n in range(3):
        (tmp_path / f"{n:04d}.png").write_bytes(encode_image(clips.scene(n, (16, 8))))
        (tmp_path / f"._{n:04d}.png").write_bytes(b"\0\5\x16\7")
    assert read(tmp_path)[0] == 3


def test_rates_with_large_terms_are_read_and_written(tmp_path):
    """333667/10000000 s, as Windows counts in 100 ns: its clock failed once all was encoded."""
    source = ODD / "04_avi_100ns_rate.avi"
    frames, notices = read(source)
    assert frames == 5 and "rounded to 1/1000000 s" in notices
    for suffix in (".mp4", ".mkv"):
        clips.rewrite(source, tmp_path / f"x{suffix}")
        assert len(clips.frames(tmp_path / f"x{suffix}")) == 5


@pytest.mark.parametrize("base", [Fraction(333667, 10_000_000), Fraction(1, 90_000), Fraction(1001, 30_000)])
def test_a_clock_is_what_containers_can_say(base):
    timeline = Timeline(base, None)
    ticks = [timeline.place(n) for n in range(1, 2000)]
    assert max(timeline.time_base.numerator, timeline.time_base.denominator) <= MOST_TICKS
    errors = [abs(tick * timeline.time_base - n * base) for n, tick in enumerate(ticks, start=1)]
    assert max(errors) <= (COARSE / 2 if base.numerator == 333667 else 0)


@pytest.mark.parametrize(
    ("asked", "taken"),
    [
        ("29.97002997", "30000/1001"),
        ("24000/1001", "24000/1001"),
        ("25", "25"),
        ("23.976023976", "24000/1001"),
    ],
)
def test_a_rate_is_one_that_containers_can_say(asked, taken):
    assert bound_rate(Fraction(asked)) == Fraction(taken)


def test_a_rate_that_is_taken_for_another_is_said(tmp_path):
    path = clips.make(tmp_path / "x.mp4", Recipe())
    assert "29.97002997 frames per second taken as 30000/1001" in read(path, fps=Fraction("29.97002997"))[1]


def test_a_leap_of_the_clock_that_mp4_cannot_say_is_told_with_a_way_out(tmp_path):
    source = ODD / "15_clock_jump_epoch.mkv"
    with pytest.raises(UsageError, match=r"the clock leaps by .* s at .*\nhint: write an \.mkv"):
        clips.rewrite(source, tmp_path / "x.mp4")
    clips.rewrite(source, tmp_path / "x.mkv")
    assert clips.times(tmp_path / "x.mkv")[-1] > 1_000_000


@pytest.mark.parametrize(
    ("names", "said"),
    [
        (["1", "2", "3", "7", "8", "10"], "4 numbers are missing, the first between 3.png and 7.png"),
        (
            ["a0010", "a0020", "a0040", "a0050"],
            "1 numbers are missing, the first between a0020.png and a0040.png",
        ),
        (["0", "10", "20", "30"], None),
        (["1", "5"], None),
        (["1", "2", "cover", "7"], None),
        (["a1", "a2", "b7"], None),
    ],
)
def test_numbers_that_are_missing_in_a_folder_are_told(names, said):
    found = find_gap([Path(f"{name}.png") for name in names])
    assert found is None if said is None else found.startswith(said)


def test_a_folder_tells_of_its_gap(tmp_path):
    for n in (1, 2, 3, 5):
        (tmp_path / f"{n}.png").write_bytes(encode_image(clips.scene(n, (16, 8))))
    assert "1 numbers are missing, the first between 3.png and 5.png" in read(tmp_path)[1]


def test_transparency_that_the_decoder_hides_is_told(tmp_path):
    """libav gives VP9 of a WebM without its alpha, and counts that of an AVIF for a second video."""
    path = tmp_path / "x.webm"
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libvpx-vp9", 25)
        stream.width, stream.height, stream.pix_fmt = 64, 64, "yuva420p"
        for _ in range(2):
            container.mux(stream.encode(av.VideoFrame(64, 64, "yuva420p")))
        container.mux(stream.encode(None))
    assert "transparency dropped" in read(path)[1]


@pytest.mark.parametrize("said", [True, False])
def test_an_avif_with_transparency_is_told_and_its_picture_read(tmp_path, said):
    image = pytest.importorskip("PIL.Image", reason="makes an AVIF")
    picture = image.new("RGBA" if said else "RGB", (32, 32), (9, 99, 199, 128)[: 4 if said else 3])
    picture.save(tmp_path / "x.avif")
    frames, notices = read(tmp_path / "x.avif")
    assert frames == 1 and ("transparency dropped" in notices) is said and "video streams" not in notices


def test_a_second_layer_of_hevc_is_seen(tmp_path):
    ftyp = b"\0\0\0\x10ftypqt  \0\0\0\0"
    (tmp_path / "x.mov").write_bytes(ftyp + b"\0\0\0\x14moov\0\0\0\x0clhvC\0\0\0\0")
    (tmp_path / "y.mov").write_bytes(ftyp + b"\0\0\0\x14moov\0\0\0\x0chvcC\0\0\0\0")
    assert look_into(DiskSource(tmp_path / "x.mov"), has_second_layer)
    assert not look_into(DiskSource(tmp_path / "y.mov"), has_second_layer)


def test_an_hour_without_frames_is_not_filled_with_repeats(tmp_path):
    path = clips.make(tmp_path / "x.mkv", Recipe(stamps=(0, 40, 80, 3_600_000)))
    assert read(path)[0] == 4
    with pytest.raises(
        UsageError, match=r"the frame at 0.080 s lasts 3,599.9 s: .* 89,998 times\nhint: leave"
    ):
        read(path, fps=Fraction(25))
    assert read(path, fps=Fraction(25), end=Fraction(1))[0] == 25


def test_half_a_minute_without_frames_is_filled_and_told(tmp_path):
    path = clips.make(tmp_path / "x.mkv", Recipe(stamps=(0, 40, 80, 30_000)))
    frames, notices = read(path, fps=Fraction(5), end=Fraction(31))
    assert frames == 155 and "2 frames last longer than 10 s, and are repeated" not in notices
    assert "1 frames last longer than 10 s, and are repeated; the frame at 0.000 s lasts 30.0 s" in notices


def test_a_pipe_among_the_frames_of_a_folder_is_refused_and_not_waited_for(tmp_path):
    for n in range(2):
        (tmp_path / f"{n}.png").write_bytes(encode_image(clips.scene(n, (16, 8))))
    os.mkfifo(tmp_path / "2.png")
    with pytest.raises(BadVideo, match=r"2\.png: a pipe or a device, no file"):
        read(tmp_path)

"""Every trap of real video, sprung: rotation, spans, images, folders, several streams, interlacing, pipes."""

import json
import subprocess
import sys
from fractions import Fraction
from itertools import pairwise
from pathlib import Path

import av
import numpy as np
import pytest
from helpers import video_clips as clips
from helpers.paths import MEDIA

from vidlatent.errors import BadVideo, UsageError
from vidlatent.io.picture.orientation import Orientation, odd_angle
from vidlatent.io.read.source import Colour, Picture, ReadOptions, open_video
from vidlatent.io.write.sink import SinkOptions, open_sink

Recipe = clips.Recipe
CODED = 12  # levels that H.264 at its default quality may be off, away from edges


@pytest.mark.parametrize("hflip", [False, True])
@pytest.mark.parametrize("degrees", [0, 90, 180, 270])
def test_rotation_and_mirroring_are_applied_to_pixels(tmp_path, degrees, hflip):
    path = clips.make(tmp_path / "x.mp4", Recipe(turn=(degrees, hflip, False), stamps=(0,)))
    upright = clips.scene(0, (64, 48))
    expected = np.rot90(upright, degrees // 90)  # counter-clockwise, as the matrix was written
    expected = expected[:, ::-1] if hflip else expected
    with open_video(path) as video:
        rgb = next(video.frames()).rgb
        assert (video.info.width, video.info.height) == (rgb.shape[1], rgb.shape[0])
        assert video.info.rotation == -degrees % 360 and video.info.flip == hflip
    assert np.median(np.abs(rgb.astype(int) - expected)) <= CODED / 4
    for y, x in ((2, 2), (2, -3), (-3, 2), (-3, -3)):
        assert np.abs(rgb[y, x].astype(int) - expected[y, x])[:2].max() <= CODED


def test_aspect_is_data_and_turns_with_the_picture(tmp_path):
    path = clips.make(tmp_path / "x.mp4", Recipe(turn=(90, False, False), sar=Fraction(4, 3), stamps=(0,)))
    with open_video(path) as video:
        assert (video.info.width, video.info.height, video.info.sar) == (48, 64, Fraction(3, 4))


def test_an_odd_angle_is_noticed():
    matrix = np.array([46341, 46341, 0, -46341, 46341, 0, 0, 0, 1 << 30], np.int32).tobytes()
    assert odd_angle(matrix) == pytest.approx(45, abs=0.1)
    assert odd_angle(np.array([0, 65536, 0, -65536, 0, 0, 0, 0, 1 << 30], np.int32).tobytes()) is None


def test_all_eight_orientations_are_told_apart():
    square = np.arange(6).reshape(2, 3)
    every = [Orientation(t, r, c) for t in (0, 1) for r in (0, 1) for c in (0, 1)]
    assert (
        len({orientation.apply(square).tobytes() + bytes(orientation.size(3, 2)) for orientation in every})
        == 8
    )
    for orientation in every:
        turned = np.rot90(square, -orientation.rotation // 90)
        assert np.array_equal(orientation.apply(square), turned[:, ::-1] if orientation.mirrored else turned)


def test_a_cropping_window_is_applied_to_the_pixel():
    """The left edge is 26 pixels in, which libav rounds down unless told otherwise."""
    with open_video(MEDIA / "oh264_crop_300x168.264") as video:
        assert (video.info.width, video.info.height) == (300, 168)
        assert next(video.frames()).rgb.shape == (168, 300, 3)


def test_raw_streams_get_their_times_from_the_rate_and_it_is_said():
    with open_video(MEDIA / "oh264_crop_300x168.264") as video:
        times = [frame.pts * video.info.time_base for frame in video.frames()]
    assert times == [Fraction(k, 25) for k in range(50)]
    assert any("50 frames without a timestamp" in notice for notice in video.notices)


def test_an_edit_list_decides_what_is_shown_and_for_how_long():
    spans = clips.spans(MEDIA / "pyfeat_no_face.mp4")
    assert len(spans) == 95 and spans[0][0] == 0
    assert spans[-1] == (Fraction(48128, 12288), Fraction(1208, 12288))


def test_header_and_counted_facts_are_apart():
    with open_video(MEDIA / "gradio_b.avi") as video:
        assert video.info.header_frames == 151
        assert len(list(video.frames())) == 150


def test_ten_bits_arrive_as_sixteen_with_more_than_eight_in_them():
    with open_video(MEDIA / "ax_hlg10.mp4") as video:
        rgb = next(video.frames()).rgb
        assert video.info.colour == Colour("bt2020nc", "tv", "arib-std-b67", "bt2020")
    assert rgb.dtype == np.uint16 and rgb.max() > 60_000
    assert len(np.unique(rgb)) > 256


def test_repeated_times_lose_no_frame(tmp_path):
    """Matroska may hold two frames of one millisecond."""
    path = tmp_path / "x.mkv"
    with av.open(str(path), "w") as container:
        stream = container.add_stream("ffv1", 1000)
        stream.width, stream.height, stream.pix_fmt = 64, 48, "yuv420p"
        for index, pts in enumerate((0, 40, 40, 80)):
            frame = av.VideoFrame.from_ndarray(clips.scene(index, (64, 48)), "rgb24").reformat(
                format="yuv420p"
            )
            frame.pts, frame.time_base = index, Fraction(1, 1000)
            for packet in stream.encode(frame):
                packet.pts = packet.dts = pts
                container.mux(packet)
    times = clips.times(path)
    assert len(times) == 4 and times[1] < times[2] < times[3]
    assert times[2] - times[1] < Fraction(1, 10_000)


SPANS = [(Fraction(1, 2), Fraction(1)), (Fraction(21, 10), None)]


@pytest.mark.parametrize("name", ["gradio_b.avi", "pyfeat_no_face.mp4", "ax_roadtrip_vp9_10bit.webm"])
def test_a_span_is_exactly_the_frames_that_lie_in_it(name):
    """With seeking (MP4, WebM) and without (AVI)."""
    options = {"size": (32, 32)}
    with open_video(MEDIA / name) as video:
        base = video.info.time_base
    everything = clips.frames(MEDIA / name, **options)
    for start, end in SPANS:
        inside = [f for f in everything if start <= f.pts * base and (end is None or f.pts * base < end)]
        got = clips.frames(MEDIA / name, start=start, end=end, **options)
        assert [f.pts for f in got] == [f.pts for f in inside]
        assert all(np.array_equal(a.rgb, b.rgb) for a, b in zip(got, inside, strict=True))


def test_a_span_beyond_the_end_is_an_error():
    beyond = ReadOptions(start=Fraction(99))
    with (
        open_video(MEDIA / "gradio_b.avi", beyond) as video,
        pytest.raises(UsageError, match=r"gradio_b\.avi: no frame in the span"),
    ):
        next(video.frames())


def test_rate_size_and_count_are_as_asked():
    options = ReadOptions(fps=Fraction(10), size=(40, 30), frames=7)
    with open_video(MEDIA / "gradio_b.avi", options) as video:
        frames = list(video.frames())
        assert [f.pts * video.info.time_base for f in frames] == [Fraction(k, 10) for k in range(7)]
        assert (video.info.width, video.info.height) == (40, 30) == frames[0].rgb.shape[1::-1]


def test_one_of_several_streams_is_read_and_it_is_said(tmp_path):
    path = tmp_path / "two.mp4"
    with av.open(str(path), "w") as container:
        streams = [container.add_stream("libx264", 25) for _ in range(2)]
        for stream, width in zip(streams, (64, 96), strict=True):
            stream.width, stream.height = width, 48
        for stream, width in zip(streams, (64, 96), strict=True):
            frame = av.VideoFrame.from_ndarray(clips.scene(0, (width, 48)), "rgb24")
            container.mux(stream.encode(frame))
            container.mux(stream.encode(None))
    for number, width in enumerate((64, 96)):
        with open_video(path, ReadOptions(stream=number)) as video:
            assert video.info.width == width and video.info.video_streams == 2
            assert f"2 video streams, reading {number} (--stream)" in video.notices
    with pytest.raises(UsageError, match="no video stream 2"):
        open_video(path, ReadOptions(stream=2))


def make_interlaced(path: Path) -> Path:
    """White squares that jump between the two fields of a frame."""
    with av.open(str(path), "w") as container:
        stream = container.add_stream(
            "mpeg2video", 25, options={"flags": "+ildct+ilme", "qmin": "1", "q": "1"}
        )
        stream.width, stream.height, stream.pix_fmt = 96, 64, "yuv420p"
        stream.codec_context.bit_rate = 8_000_000
        graph = av.filter.Graph()
        source = graph.add(
            "buffer", video_size="96x64", pix_fmt="yuv420p", time_base="1/25", pixel_aspect="1/1"
        )
        mark, sink = graph.add("setfield", "tff"), graph.add("buffersink")
        source.link_to(mark)
        mark.link_to(sink)
        graph.configure()
        for index in range(6):
            rgb = np.zeros((64, 96, 3), np.uint8)
            rgb[0::2, 8 * index : 8 * index + 24] = 255
            rgb[1::2, 8 * index + 4 : 8 * index + 28] = 255
            frame = av.VideoFrame.from_ndarray(rgb, "rgb24").reformat(format="yuv420p")
            frame.pts = index
            graph.vpush(frame)
            container.mux(stream.encode(graph.vpull()))
        container.mux(stream.encode(None))
    return path


def combing(frames: list) -> float:
    """How much neighbouring rows differ."""
    return float(np.mean([np.abs(np.diff(f.rgb[..., 0].astype(int), axis=0)).mean() for f in frames]))


def test_interlaced_video_is_noticed_and_can_be_undone(tmp_path):
    path = make_interlaced(tmp_path / "x.ts")
    with open_video(path) as video:
        woven = list(video.frames())
        assert video.info.interlaced and "--deinterlace" in " ".join(video.notices)
    rebuilt = clips.frames(path, deinterlace=True)
    assert [f.pts for f in rebuilt] == [f.pts for f in woven]
    assert combing(rebuilt) < combing(woven) / 2


def test_a_picture_that_changes_size_is_refused_unless_a_size_is_asked(tmp_path):
    path = tmp_path / "x.264"
    parts = [clips.make(tmp_path / f"{w}.264", Recipe(size=(w, 48), format="h264")) for w in (64, 96)]
    path.write_bytes(b"".join(part.read_bytes() for part in parts))
    with pytest.raises(BadVideo, match="changes from 64x48 to 96x48"):
        clips.frames(path)
    assert len(clips.frames(path, size=(64, 48))) == 24


def write_folder(folder: Path, count: int = 12) -> Path:
    picture = Picture(
        64, 48, Fraction(1), Colour("bt709", "tv", "bt709", "bt709"), 8, Fraction(1, 1000), Fraction(25)
    )
    with open_sink(folder, picture) as sink:
        for index in range(count):
            sink.write(clips.scene(index, (64, 48)), 30 * index + index % 2, 30)
    return folder


def test_a_png_folder_comes_back_with_its_times(tmp_path):
    folder = write_folder(tmp_path / "frames.png")
    got = clips.frames(folder)
    assert clips.times(folder) == [Fraction(30 * k + k % 2, 1000) for k in range(12)]
    assert all(np.array_equal(f.rgb, clips.scene(k, (64, 48))) for k, f in enumerate(got))


def test_sixteen_bit_png_is_exact(tmp_path):
    colour = Colour("bt2020nc", "tv", "smpte2084", "bt2020")
    picture = Picture(64, 48, Fraction(1), colour, 10, Fraction(1, 1000), Fraction(25))
    rgb = np.random.default_rng(0).integers(0, 65536, (48, 64, 3), dtype=np.uint16)
    with open_sink(tmp_path / "f.png", picture) as sink:
        sink.write(rgb, 0, 40)
    assert np.array_equal(clips.frames(tmp_path / "f.png")[0].rgb, rgb)


@pytest.mark.parametrize(("fps", "near"), [("29.97002997", "30000/1001"), ("10000000/333667", "2997/100")])
def test_a_folder_at_a_rate_of_large_terms_takes_the_nearest_that_can_be_stated(tmp_path, fps, near):
    """The clock of such a rate fits no header: it was refused only once a picture was to be written."""
    folder = write_folder(tmp_path / "frames.png", count=3)
    (folder / "timestamps.json").unlink()
    with open_video(folder, ReadOptions(fps=Fraction(fps))) as video:
        assert f"images per second taken as {near}" in " ".join(video.notices)
        assert [frame.pts * video.info.time_base for frame in video.frames()] == [
            n / Fraction(near) for n in range(3)
        ]
        assert max(video.info.time_base.as_integer_ratio()) < 1 << 31


def test_a_folder_of_strangers_is_sorted_as_people_count_and_timed_by_fps(tmp_path):
    folder = write_folder(tmp_path / "frames.png")
    (folder / "timestamps.json").unlink()
    for index, image in enumerate(sorted(folder.iterdir())):
        image.rename(folder / f"img{index}.png")
    with open_video(folder) as video:
        assert video.notices == ["images carry no time, assumed: 25 per second"]
    with open_video(folder, ReadOptions(fps=Fraction(10))) as video:
        got = list(video.frames())
        assert [f.pts * video.info.time_base for f in got] == [Fraction(k, 10) for k in range(12)]
    assert np.array_equal(got[11].rgb, clips.scene(11, (64, 48)))


@pytest.mark.parametrize(
    "times", ["nonsense", "{}", json.dumps({"time_base": "1/25", "pts": [1, 1], "durations": [1, 1]})]
)
def test_timestamps_that_lie_are_refused(tmp_path, times):
    folder = write_folder(tmp_path / "frames.png", count=2)
    (folder / "timestamps.json").write_text(times)
    with pytest.raises(BadVideo, match=r"timestamps\.json: "):
        open_video(folder)


def test_images_of_different_sizes_are_refused_by_name(tmp_path):
    folder = write_folder(tmp_path / "frames.png", count=2)
    other = Picture(
        32, 48, Fraction(1), Colour("bt709", "tv", "bt709", "bt709"), 8, Fraction(1, 1000), Fraction(25)
    )
    with open_sink(tmp_path / "other.png", other) as sink:
        sink.write(clips.scene(0, (32, 48)), 0, 40)
    (tmp_path / "other.png" / "000000.png").rename(folder / "000001.png")
    with pytest.raises(
        BadVideo, match=r"000001\.png: expected 64x48, 8 bit as in the first image, got 32x48"
    ):
        clips.frames(folder)


def test_a_single_image_is_a_clip_of_one_frame(tmp_path):
    folder = write_folder(tmp_path / "frames.png", count=1)
    with open_video(folder / "000000.png") as video:
        (frame,) = video.frames()
    assert np.array_equal(frame.rgb, clips.scene(0, (64, 48)))


def test_an_empty_folder_is_refused(tmp_path):
    with pytest.raises(BadVideo, match="no images in this folder"):
        open_video(tmp_path)


PIPE = """
import sys
from vidlatent.io.read.source import open_video
from vidlatent.io.write.sink import open_sink
with open_video(sys.argv[1]) as video, open_sink("-", video.info.picture()) as sink:
    for frame in video.frames():
        sink.write(frame.rgb, frame.pts, frame.duration)
"""
COUNT = """
from vidlatent.io.read.source import open_video
with open_video("-") as video:
    frames, info = list(video.frames()), video.info
    print(len(frames), info.width, info.height, info.sar, frames[-1].pts * info.time_base)
"""


def test_yuv4mpeg_goes_through_pipes(tmp_path):
    source = clips.make(tmp_path / "in.mp4", Recipe(sar=Fraction(4, 3), size=(64, 48)))
    sent = subprocess.run([sys.executable, "-c", PIPE, str(source)], capture_output=True, check=True).stdout
    assert sent.startswith(b"YUV4MPEG2 W64 H48 F25:1 Ip A4:3 C444")
    got = subprocess.run([sys.executable, "-c", COUNT], input=sent, capture_output=True, check=True).stdout
    assert got.split() == [b"12", b"64", b"48", b"4/3", b"11/25"]


def test_the_fast_preset_is_passed_on(tmp_path):
    source = clips.make(tmp_path / "in.mp4", Recipe())
    sizes = {}
    for preset in ("ultrafast", "slow"):
        clips.rewrite(source, tmp_path / f"{preset}.mp4", SinkOptions(preset=preset))
        sizes[preset] = (tmp_path / f"{preset}.mp4").stat().st_size
    assert sizes["slow"] < sizes["ultrafast"]


def test_slots_are_those_of_the_clip_wherever_reading_begins(tmp_path):
    """Reading seeks to a little before the start, and finds a first frame there that is not the clip's."""
    path = clips.make(
        tmp_path / "a.mkv", Recipe("ffv1", stamps=tuple(range(120, 4000, 70)), format="matroska")
    )
    fps, cuts = Fraction(16), [None, Fraction(3, 2), Fraction("2.77"), Fraction("3.1"), None]
    parts = [clips.times(path, fps=fps, start=start, end=end) for start, end in pairwise(cuts)]
    assert [time for part in parts for time in part] == clips.times(path, fps=fps) and all(parts)

"""What goes in comes out: frames, times, sizes, aspect and sound survive reading and writing again."""

import resource
import signal
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
import torch
from helpers import video_clips as clips
from helpers.paths import MEDIA

from vidlatent.errors import OutOfResources, UsageError, VidlatentError
from vidlatent.io.read.source import Chapter, Colour, Picture, open_video
from vidlatent.io.write.sink import SinkOptions, open_sink

Recipe = clips.Recipe
FAST = SinkOptions(preset="ultrafast")
MKV_TICK = Fraction(1, 1000)

CARRIED = [
    ("gradio_b.avi", 150, 1), ("pyfeat_no_face.mp4", 95, 1), ("ax_roadtrip_vp9_10bit.webm", 72, 0),
    ("ax_hlg10.mp4", 9, 1), ("oh264_crop_300x168.264", 50, 0),
]  # fmt: skip
VFR = (0, 7, 90, 91, 400, 401, 900)
VARIANTS = {
    "h264": Recipe(audio="aac"),
    "h264 10 bit": Recipe(pix_fmt="yuv420p10le", audio="libopus"),
    "h264 full range bt601": Recipe(pix_fmt="yuv420p", tags={"colorspace": 6, "color_range": 2}),
    "hevc": Recipe(codec="libx265", audio="ac3"),
    "hevc pq": Recipe(codec="libx265", pix_fmt="yuv420p10le", tags={"colorspace": 9, "color_trc": 16}),
    "vp9 odd": Recipe(codec="libvpx-vp9", size=(63, 47), audio="flac"),
    "av1 odd 10 bit": Recipe(codec="libsvtav1", pix_fmt="yuv420p10le", size=(65, 67)),
    "4:4:4 odd": Recipe(pix_fmt="yuv444p", size=(61, 53), audio="libmp3lame"),
    "4:2:2": Recipe(pix_fmt="yuv422p10le"),
    "mpeg4": Recipe(codec="mpeg4", audio="mp2"),
    "variable rate": Recipe(stamps=VFR, audio="aac", audio_start=250),
    "late start": Recipe(stamps=(333, 373, 413, 453), audio="aac"),
    "one frame": Recipe(stamps=(0,)),
    "turned 90": Recipe(turn=(90, False, False), stamps=VFR),
    "turned 180": Recipe(turn=(180, False, False)),
    "turned 270": Recipe(turn=(270, False, False), sar=Fraction(4, 3)),
    "mirrored": Recipe(turn=(90, True, False)),
    "anamorphic": Recipe(sar=Fraction(16, 11)),
}  # fmt: skip


def assert_same_clip(source: Path, target: Path, tick: Fraction) -> None:
    """Same number of frames, times within `tick`, same displayed shape, same sound."""
    before, after = clips.spans(source), clips.spans(target)
    assert len(after) == len(before)
    assert max(abs(a[0] - b[0]) for a, b in zip(after, before, strict=True)) <= tick
    assert abs(after[-1][1] - before[-1][1]) <= tick
    with open_video(source) as old, open_video(target) as new:
        assert (new.info.width, new.info.height, new.info.sar) == (
            old.info.width,
            old.info.height,
            old.info.sar,
        )
        assert new.info.rotation == 0 and not new.info.colour.assumed
        assert new.info.deep == old.info.deep
    for old, new in zip(clips.sound(source), clips.sound(target), strict=True):
        assert [md5 for md5, _ in new] == [md5 for md5, _ in old]
        # half of Matroska's millisecond on both ways; far less than one audio frame
        assert max((abs(a[1] - b[1]) for a, b in zip(new, old, strict=True)), default=0) < Fraction(12, 1000)


@pytest.mark.parametrize(("name", "count", "tracks"), CARRIED)
def test_carried_clips_come_back(tmp_path, name, count, tracks):
    target = tmp_path / "out.mp4"
    clips.rewrite(MEDIA / name, target, FAST)
    assert len(clips.spans(target)) == count
    assert len(clips.sound(target)) == tracks
    assert_same_clip(MEDIA / name, target, Fraction(0))


@pytest.mark.parametrize("name", VARIANTS)
def test_variants_come_back(tmp_path, name):
    source = clips.make(
        tmp_path / "in.mkv" if "flac" in str(VARIANTS[name]) else tmp_path / "in.mp4", VARIANTS[name]
    )
    clips.rewrite(source, tmp_path / "out.mp4", FAST)
    assert_same_clip(source, tmp_path / "out.mp4", Fraction(0))


@pytest.mark.parametrize("suffix", [".mov", ".mkv"])
@pytest.mark.parametrize("name", ["h264", "variable rate", "turned 270"])
def test_other_films_come_back(tmp_path, name, suffix):
    source = clips.make(tmp_path / "in.mp4", VARIANTS[name])
    clips.rewrite(source, tmp_path / f"out{suffix}", FAST)
    assert_same_clip(source, tmp_path / f"out{suffix}", MKV_TICK if suffix == ".mkv" else Fraction(0))


@pytest.mark.slow
def test_every_clip_beside_the_checkout_comes_back(tmp_path, shared):
    for source in sorted((shared / "media" / "clips").iterdir()):
        clips.rewrite(source, tmp_path / "out.mp4", FAST)
        assert_same_clip(source, tmp_path / "out.mp4", Fraction(0))


def test_pixels_come_back_exactly_through_ffv1(tmp_path):
    source = clips.make(tmp_path / "in.mp4", Recipe(size=(63, 47), codec="libvpx-vp9"))
    clips.rewrite(source, tmp_path / "out.mkv", SinkOptions(codec="ffv1"))
    for old, new in zip(clips.frames(source), clips.frames(tmp_path / "out.mkv"), strict=True):
        assert np.array_equal(old.rgb, new.rgb)


def test_webm_re_encodes_sound_it_cannot_hold_and_says_so(tmp_path):
    source = clips.make(tmp_path / "in.mp4", Recipe(audio="aac", audio_start=250))
    notices = clips.rewrite(source, tmp_path / "out.webm")
    assert notices == ["aac sound re-encoded to libopus: webm cannot hold it"]
    begins = [clips.sound(path)[0][0][1] for path in (source, tmp_path / "out.webm")]
    assert abs(begins[0] - begins[1]) < Fraction(30, 1000)  # priming of the two codecs differs


def test_pixels_are_squared_where_the_file_cannot_tell_their_shape(tmp_path):
    source = clips.make(tmp_path / "in.mp4", Recipe(sar=Fraction(2), stamps=(0, 40)))
    notices = clips.rewrite(source, tmp_path / "out.webm")
    assert "scaled to square ones, 128x48" in notices[0]
    with open_video(tmp_path / "out.webm") as video:
        assert (video.info.width, video.info.height, video.info.sar) == (128, 48, 1)


def test_square_pixels_on_request(tmp_path):
    source = clips.make(tmp_path / "in.mp4", Recipe(sar=Fraction(2), stamps=(0, 40)))
    clips.rewrite(source, tmp_path / "out.mp4", SinkOptions(square_pixels=True))
    with open_video(tmp_path / "out.mp4") as video:
        assert (video.info.width, video.info.height, video.info.sar) == (128, 48, 1)


def test_frames_before_zero_move_the_clip_with_its_sound(tmp_path):
    picture = make_picture()
    with open_sink(tmp_path / "x.mp4", picture, options=FAST) as sink:
        for pts in (-100, -60, 0):
            sink.write(np.zeros((48, 64, 3), np.uint8), pts, 40)
    assert clips.times(tmp_path / "x.mp4") == [0, Fraction(40, 1000), Fraction(100, 1000)]
    assert "below zero" in sink.notices[0]


@pytest.mark.parametrize("options", [FAST, SinkOptions(codec="ffv1")], ids=["h264", "ffv1"])
def test_frames_of_one_time_are_shown_one_after_the_other_and_that_is_said(tmp_path, options):
    """No film has two frames at once; a `.latent` that another program wrote may: it was a KeyError."""
    with open_sink(tmp_path / "x.mkv", make_picture(), options=options) as sink:
        for pts in (0, 0, 0, 1, 40, 40, 80):
            sink.write(np.zeros((48, 64, 3), np.uint8), pts, 0)
    assert "4 frames have the time of the one before them: shown up to 0.002 s later" in sink.notices
    assert [round(1000 * start) for start, _ in clips.spans(tmp_path / "x.mkv")] == [0, 1, 2, 3, 40, 41, 80]


def test_an_origin_becomes_zero(tmp_path):
    with open_sink(tmp_path / "x.mp4", make_picture(), options=FAST, origin=Fraction(5)) as sink:
        for pts in (5000, 5041):
            sink.write(np.zeros((48, 64, 3), np.uint8), pts, 40)
    assert clips.times(tmp_path / "x.mp4") == [0, Fraction(41, 1000)]


def make_picture(**changes) -> Picture:
    facts = dict(width=64, height=48, sar=Fraction(1), colour=Colour("bt709", "tv", "bt709", "bt709"),
                 bit_depth=8, time_base=Fraction(1, 1000), rate=Fraction(25))  # fmt: skip
    return Picture(**(facts | changes))


WORDS = {"title": "Übung", "artist": "wir", "comment": "so", "creation_time": "2020-01-02T03:04:05.000000Z"}
CHAPTERS = (
    Chapter(Fraction(0), Fraction(1, 10), "one"),
    Chapter(Fraction(1, 10), Fraction(1, 4), "zwei"),
)


def write_words(path: Path, tags: dict, audio: Path | None = None) -> list[str]:
    """Six frames with words and chapters; what the sink had to say."""
    picture = make_picture(tags=tags, chapters=CHAPTERS)
    options = SinkOptions() if path.suffix == ".webm" else FAST
    with open_sink(path, picture, audio, options) as sink:
        for pts in range(0, 240, 40):
            sink.write(np.zeros((48, 64, 3), np.uint8), pts, 40)
    return sink.notices


@pytest.mark.parametrize("suffix", [".mp4", ".mov", ".mkv", ".webm"])
def test_words_and_chapters_are_carried(tmp_path, suffix):
    tags = WORDS | {"language": "fra"}
    assert write_words(tmp_path / f"x{suffix}", tags) == []
    with open_video(tmp_path / f"x{suffix}") as video:
        assert video.info.tags == tags
        assert video.info.chapters == CHAPTERS


@pytest.mark.parametrize(("suffix", "read"), [(".mp4", "deu"), (".mov", "ger"), (".mkv", "deu")])
def test_the_language_of_sound_is_carried(tmp_path, suffix, read):
    """QuickTime counts languages, and libav knows German there as ger only."""
    spoken = clips.speaking(tmp_path / "sound.mka", "deu")
    assert write_words(tmp_path / f"x{suffix}", {"language": "deu"}, spoken) == []
    with open_video(tmp_path / f"x{suffix}") as video:
        assert [track.language for track in video.info.audio] == [read]
        assert video.info.tags == {"language": read}


@pytest.mark.parametrize(("suffix", "language"), [(".mov", "glg"), (".mp4", "en")])
def test_words_without_a_place_are_said(tmp_path, suffix, language):
    spoken = clips.speaking(tmp_path / "sound.mka", language)
    notices = write_words(tmp_path / f"x{suffix}", {"language": language, "description": "d"}, spoken)
    name = suffix[1:]
    for what in ("pictures", "sound"):
        assert f"{name} cannot tell the language {language} of its {what}: left out" in notices
    assert (f"{name} cannot tell the description: left out" in notices) == (suffix == ".mov")


def test_a_picture_survives_json():
    with open_video(MEDIA / "pyfeat_no_face.mp4") as video:
        picture = video.info.picture()
    assert Picture.from_json(picture.to_json()) == picture


def test_an_error_while_writing_leaves_no_file(tmp_path):
    with pytest.raises(RuntimeError), open_sink(tmp_path / "out.mp4", make_picture()) as sink:
        sink.write(np.zeros((48, 64, 3), np.uint8), 0, 40)
        raise RuntimeError
    assert not list(tmp_path.iterdir())


def test_nothing_to_write_is_an_error_and_leaves_no_file(tmp_path):
    with (
        pytest.raises(VidlatentError, match="no frames to write"),
        open_sink(tmp_path / "o.mp4", make_picture()),
    ):
        pass
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (SinkOptions(codec="libx999"), "^codec libx999: no such encoder"),
        pytest.param(
            SinkOptions(codec="h264_nvenc"),
            "needs an NVIDIA GPU|no such encoder",
            marks=pytest.mark.skipif(torch.cuda.is_available(), reason="this GPU may encode video"),
        ),
        (SinkOptions(codec="libvpx", pix_fmt="yuv420p"), "no such encoder|cannot hold"),
        (SinkOptions(pix_fmt="yuv411p"), "pix_fmt yuv411p: libx264 does not take it"),
    ],
)
def test_what_cannot_be_written_is_refused_before_the_first_frame(tmp_path, options, said):
    with (
        pytest.raises(UsageError, match=said),
        open_sink(tmp_path / "x.mp4", make_picture(), options=options),
    ):
        pass
    assert not list(tmp_path.iterdir())


def test_a_name_that_says_nothing_is_refused(tmp_path):
    with pytest.raises(UsageError, match="cannot tell what to write"):
        open_sink(tmp_path / "x.doc", make_picture())


@pytest.fixture
def small_disk():
    """No file may grow beyond 40 kB."""
    limits, handler = resource.getrlimit(resource.RLIMIT_FSIZE), signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (40_000, limits[1]))
    yield
    resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    signal.signal(signal.SIGXFSZ, handler)


@pytest.mark.parametrize("name", ["out.mkv", "out.mp4", "folder.png"])
def test_a_full_disk_is_named_and_leaves_no_file(tmp_path, small_disk, name):
    noise = np.random.default_rng(0).integers(0, 255, (240, 320, 3), dtype=np.uint8)
    with (
        pytest.raises(OutOfResources, match=f"{name}: disk full"),
        open_sink(tmp_path / name, make_picture(width=320, height=240), options=FAST) as sink,
    ):
        for pts in range(0, 800, 40):
            sink.write(noise, pts, 40)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(("suffix", "crowded"), [(".mkv", 17), (".webm", 17), (".mp4", 0)])
def test_a_clock_too_coarse_for_the_rate_is_said(tmp_path, suffix, crowded):
    """At 2400 frames per second two or three fall into each of Matroska's milliseconds."""
    colour = Colour("gbr", "pc", "iec61966-2-1", "bt709")
    picture = Picture(64, 48, Fraction(1), colour, 8, Fraction(1, 2400), Fraction(2400))
    with open_sink(tmp_path / f"x{suffix}", picture) as sink:
        for n in range(30):
            sink.write(clips.scene(n, (64, 48)), n, 1)
    assert len(clips.frames(tmp_path / f"x{suffix}")) == 30
    said = [notice for notice in sink.notices if "milliseconds" in notice]
    assert [notice.split()[3] for notice in said] == ([str(crowded)] if crowded else [])
    assert all("(.mp4 and .mov keep them apart)" in notice for notice in said)

"""The mastering display and the light levels of HDR video go where the pictures go."""

from dataclasses import replace

import pytest
from helpers import video_clips as clips

import vidlatent
from vidlatent.io.picture.mastering import Mastering
from vidlatent.io.read.source import Picture, ReadOptions, open_video
from vidlatent.io.write.sink import SinkOptions, open_sink

P3_DISPLAY = Mastering(
    primaries=(34000, 16000, 13250, 34500, 7500, 3000, 15635, 16450),
    luminance=(50, 10_000_000),
    levels=(1000, 400),
)
PQ = {"colorspace": 9, "color_trc": 16, "color_primaries": 9}


@pytest.fixture
def pq_clip(tmp_path):
    """A few frames tagged as PQ."""
    return clips.make(
        tmp_path / "pq.mkv", clips.Recipe(codec="libx265", pix_fmt="yuv420p10le", tags=PQ, stamps=(0, 40, 80))
    )


def write(source, target, mastering, options=None) -> list[str]:
    """`source` again, as if it told `mastering`; what the sink had to say."""
    with open_video(source) as video:
        picture = replace(video.info.picture(), mastering=mastering)
        with open_sink(target, picture, options=options) as sink:
            for frame in video.frames():
                sink.write(frame.rgb, frame.pts, frame.duration)
    return sink.notices


def read(path, **options) -> Mastering | None:
    with open_video(path, ReadOptions(**options)) as video:
        return video.info.mastering


@pytest.mark.parametrize(
    ("name", "codec"),
    [("x.mp4", None), ("x.mov", "libx265"), ("x.mkv", "libx265"), ("x.mkv", "libsvtav1"), ("x.webm", None)],
)
def test_films_tell_their_mastering_display_and_light_levels(pq_clip, tmp_path, name, codec):
    assert write(pq_clip, tmp_path / name, P3_DISPLAY, SinkOptions(codec=codec)) == []
    assert read(tmp_path / name) == P3_DISPLAY


@pytest.mark.parametrize("part", [Mastering(levels=(600, 0)), replace(P3_DISPLAY, levels=None)])
def test_one_may_come_without_the_other(pq_clip, tmp_path, part):
    write(pq_clip, tmp_path / "x.mp4", part)
    assert read(tmp_path / "x.mp4") == part


def test_what_cannot_be_told_is_said(pq_clip, tmp_path):
    notices = write(pq_clip, tmp_path / "x.mkv", P3_DISPLAY, SinkOptions(codec="ffv1"))
    assert notices == ["ffv1 cannot tell the mastering display and light levels: left out"]
    notices = write(pq_clip, tmp_path / "y.mp4", replace(P3_DISPLAY, luminance=None))
    assert notices == ["the mastering display is told by halves: left out"]
    assert read(tmp_path / "y.mp4") == Mastering(levels=P3_DISPLAY.levels)


def test_a_latent_carries_it(pq_clip, tmp_path):
    write(pq_clip, tmp_path / "in.mp4", P3_DISPLAY)
    toy = vidlatent.load_model("toy", device="cpu")
    vidlatent.encode(tmp_path / "in.mp4", tmp_path / "x.latent", toy)
    vidlatent.decode(tmp_path / "x.latent", tmp_path / "out.mp4", toy)
    with vidlatent.open_latent(tmp_path / "x.latent") as latents:
        assert Picture.from_json(latents.header.picture).mastering == P3_DISPLAY
    assert read(tmp_path / "out.mp4") == P3_DISPLAY


def test_tone_mapped_pictures_no_longer_have_it(pq_clip, tmp_path):
    write(pq_clip, tmp_path / "in.mp4", P3_DISPLAY)
    assert read(tmp_path / "in.mp4", tonemap=True) is None

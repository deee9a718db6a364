"""Folders of images: every sample, every time, at the source's depth."""

from fractions import Fraction

import av
import numpy as np
import pytest
from helpers import video_clips as clips

from vidlatent.cli.app import run
from vidlatent.errors import UsageError
from vidlatent.io.read.source import Colour, Picture, open_video
from vidlatent.io.write.sink import SinkOptions, open_sink

SRGB = Colour("gbr", "pc", "iec61966-2-1", "bt709")
SPANS = ((-7, 5), (-2, 11), (9, 1))  # pts, duration


def noise(dtype) -> np.ndarray:
    """Three frames of an odd size, with the darkest and the brightest level in each."""
    top = np.iinfo(dtype).max
    frames = np.random.default_rng(0).integers(0, top, (3, 17, 31, 3), dtype, endpoint=True)
    frames[:, 0, 0], frames[:, 0, 1] = 0, top
    return frames


def write(path, frames, options=None) -> None:
    depth = 8 * frames.itemsize
    picture = Picture(31, 17, Fraction(1), SRGB, depth, Fraction(1, 600), None)
    with open_sink(path, picture, options=options) as sink:
        for frame, (pts, duration) in zip(frames, SPANS, strict=True):
            sink.write(frame, pts, duration)


@pytest.mark.parametrize("kind", ["png", "tiff"])
@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
def test_every_sample_and_every_time_comes_back(tmp_path, kind, dtype):
    frames = noise(dtype)
    write(f"{tmp_path}/frames/", frames, SinkOptions(images=kind))
    assert sorted(p.name for p in (tmp_path / "frames").iterdir()) == [
        *(f"{n:06d}.{kind}" for n in range(3)),
        "timestamps.json",
    ]
    with open_video(tmp_path / "frames") as video:
        back = list(video.frames())
        assert video.info.time_base == Fraction(1, 600)
    assert [(f.pts, f.duration) for f in back] == list(SPANS)
    for old, new in zip(frames, back, strict=True):
        assert new.rgb.dtype == dtype and np.array_equal(new.rgb, old)


@pytest.mark.parametrize(("name", "kind"), [("x.tif", "tiff"), ("x.TIFF", "tiff"), ("x.png", "png")])
def test_the_name_says_which_images(tmp_path, name, kind):
    write(tmp_path / name, noise(np.uint8))
    assert len(list((tmp_path / name).glob(f"*.{kind}"))) == 3


def test_other_readers_see_16_bits(tmp_path):
    write(tmp_path / "x.tiff", noise(np.uint16))
    with av.open(str(tmp_path / "x.tiff" / "000001.tiff")) as image:
        frame = next(image.decode(video=0))
    assert frame.format.name == "rgb48le"
    assert np.array_equal(frame.to_ndarray(), noise(np.uint16)[1])


@pytest.mark.parametrize(
    ("name", "kind", "said"),
    [("frames/", "bmp", "^images bmp: unknown"), ("x.mp4", "tiff", "x.mp4 is no folder of images")],
)
def test_a_format_that_cannot_be_is_refused(tmp_path, name, kind, said):
    with pytest.raises(UsageError, match=said):
        open_sink(f"{tmp_path}/{name}", Picture(31, 17, Fraction(1), SRGB, 8, Fraction(1), None),
                  options=SinkOptions(images=kind))  # fmt: skip
    assert not list(tmp_path.iterdir())


def test_pixels_that_are_not_square_are_said_or_scaled(tmp_path):
    source = clips.make(tmp_path / "in.mp4", clips.Recipe(sar=Fraction(2), stamps=(0, 40)))
    assert clips.rewrite(source, tmp_path / "a.png") == [
        "images cannot tell pixels of 2 (--square-pixels scales them)"
    ]
    assert clips.rewrite(source, tmp_path / "b.png", SinkOptions(square_pixels=True)) == []
    assert [clips.frames(tmp_path / name)[0].rgb.shape for name in ("a.png", "b.png")] == [
        (48, 64, 3),
        (48, 128, 3),
    ]


def test_a_deep_clip_decodes_to_deep_images(tmp_path, capsys):
    source = clips.make(tmp_path / "in.mp4", clips.Recipe(pix_fmt="yuv420p10le", audio="aac"))
    latent, frames = tmp_path / "x.latent", tmp_path / "frames"
    assert run(["encode", str(source), "-o", str(latent), "--model", "toy", "--device", "cpu"]) == 0
    assert run(["decode", str(latent), "-o", f"{frames}/", "--format", "tiff", "--device", "cpu"]) == 0
    assert "images and YUV4MPEG hold no sound: left out" in capsys.readouterr().err
    assert clips.spans(frames) == clips.spans(source)
    for old, new in zip(clips.frames(source), clips.frames(frames), strict=True):
        assert new.rgb.dtype == np.uint16
        assert int(np.abs(old.rgb.astype(int) - new.rgb).max()) <= 1  # of 65535: float32 between them
    assert sorted(p.name for p in tmp_path.iterdir()) == ["frames", "in.mp4", "x.latent"]


def test_a_second_run_into_the_same_folder_is_refused_and_the_first_keeps_its_frames(tmp_path):
    """Each run began with removing what it took for the leftovers of another."""
    picture = Picture(31, 17, Fraction(1), SRGB, 8, Fraction(1, 600), None)
    frames = noise(np.uint8)
    with open_sink(f"{tmp_path}/x/", picture) as first:
        first.write(frames[0], 0, 1)
        with (
            pytest.raises(UsageError, match="another run is writing it"),
            open_sink(f"{tmp_path}/x/", picture),
        ):
            pytest.fail("two runs at once")
        first.write(frames[1], 1, 1)
    assert len(list((tmp_path / "x").glob("*.png"))) == 2

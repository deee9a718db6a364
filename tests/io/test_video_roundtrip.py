"""What goes in comes out: frames, times, sizes and sound survive reading and writing again."""

import hashlib
from fractions import Fraction
from pathlib import Path

import av
import pytest

from vidlatent.io.audio import copy_audio
from vidlatent.io.video_sink import SinkOptions, open_sink
from vidlatent.io.video_source import Picture, open_video

ROOT = Path(__file__).parents[2]
SAMPLE = ROOT / "assets" / "sample.mp4"


def times(path: Path) -> list[tuple[Fraction, Fraction]]:
    """(start, duration) of every frame in seconds."""
    with open_video(path) as video:
        base = video.info.time_base
        return [(f.pts * base, f.duration * base) for f in video.frames()]


def audio_packets(path: Path) -> list[list[str]]:
    """md5 of every audio packet, per track."""
    with av.open(str(path)) as container:
        found: dict[int, list[str]] = {s.index: [] for s in container.streams.audio}
        for packet in container.demux(list(container.streams.audio)):
            if packet.size:
                found[packet.stream.index].append(hashlib.md5(bytes(packet)).hexdigest())
    return list(found.values())


def rewrite(source: Path, target: Path) -> None:
    """Through frames and back, sound through its own file."""
    sound = target.with_suffix(".mka")
    packets = copy_audio(source, sound)
    options = SinkOptions(preset="ultrafast")
    with (
        open_video(source) as video,
        open_sink(target, video.info.picture(), sound if packets else None, options) as sink,
    ):
        for frame in video.frames():
            sink.write(frame.rgb, frame.pts, frame.duration)


@pytest.mark.parametrize("suffix", [".mp4", ".mov", ".mkv"])
def test_sample_keeps_frames_times_size_and_sound(tmp_path, suffix):
    target = tmp_path / f"out{suffix}"
    rewrite(SAMPLE, target)
    got, expected = times(target), times(SAMPLE)
    tick = Fraction(1, 1000) if suffix == ".mkv" else 0
    assert len(got) == len(expected) == 90
    assert max(abs(a[0] - b[0]) for a, b in zip(got, expected, strict=True)) <= tick
    assert audio_packets(target) == audio_packets(SAMPLE)
    with open_video(target) as video:
        assert (video.info.width, video.info.height, video.info.sar) == (480, 360, 1)
        assert video.info.colour.matrix == "bt709" and not video.info.colour.assumed


def test_picture_survives_json():
    with open_video(SAMPLE) as video:
        picture = video.info.picture()
    assert Picture.from_json(picture.to_json()) == picture


def test_an_error_while_writing_leaves_no_file(tmp_path):
    with open_video(SAMPLE) as video:
        picture, frame = video.info.picture(), next(video.frames())
    with pytest.raises(RuntimeError), open_sink(tmp_path / "out.mp4", picture) as sink:
        sink.write(frame.rgb, frame.pts, frame.duration)
        raise RuntimeError
    assert not list(tmp_path.iterdir())

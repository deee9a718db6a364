"""Small clips made on the spot, one trap each, and what they must read as."""

import hashlib
from dataclasses import dataclass, field
from fractions import Fraction
from pathlib import Path

import av
import numpy as np

from vidlatent.io.read.source import Frame, ReadOptions, open_video
from vidlatent.io.sound.copy import copy_audio
from vidlatent.io.write.sink import SinkOptions, open_sink


@dataclass
class Recipe:
    """A clip to make: `stamps` are milliseconds; `turn` is (counter-clockwise degrees, hflip, vflip)."""

    codec: str = "libx264"
    pix_fmt: str = "yuv420p"
    size: tuple[int, int] = (64, 48)
    stamps: tuple[int, ...] = tuple(range(0, 480, 40))
    turn: tuple[int, bool, bool] | None = None
    audio: str | None = None
    audio_start: int = 0
    tags: dict[str, int] = field(default_factory=dict)
    sar: Fraction | None = None
    format: str | None = None


def scene(index: int, size: tuple[int, int]) -> np.ndarray:
    """RGB [H, W, 3] uint8 in which every corner and every frame differs."""
    width, height = size
    y, x = np.mgrid[0:height, 0:width].astype(float)
    red, green = 255 * x / max(1, width - 1), 255 * y / max(1, height - 1)
    blue = 127 + 100 * np.sin(index + x / 9 + y / 7)
    return np.stack([red, green, blue], -1).clip(0, 255).astype(np.uint8)


def make(path: Path, recipe: Recipe) -> Path:
    """Encode `recipe` at `path` with libav itself, none of our writing code."""
    with av.open(str(path), "w", format=recipe.format) as container:
        video = container.add_stream(recipe.codec, 25)
        video.width, video.height = recipe.size
        video.pix_fmt = recipe.pix_fmt
        video.codec_context.time_base = Fraction(1, 1000)
        video.time_base = Fraction(1, 1000)
        if recipe.sar:
            video.codec_context.sample_aspect_ratio = recipe.sar
        if recipe.turn:
            video.set_display_rotation(*recipe.turn)
        for name, value in recipe.tags.items():
            setattr(video.codec_context, name, value)
        sound = container.add_stream(recipe.audio, 48_000) if recipe.audio else None
        for index, stamp in enumerate(recipe.stamps):
            frame = av.VideoFrame.from_ndarray(scene(index, recipe.size), "rgb24")
            frame = frame.reformat(format=recipe.pix_fmt)
            for name, value in recipe.tags.items():
                setattr(frame, name, value)
            frame.pts, frame.time_base = stamp, Fraction(1, 1000)
            container.mux(video.encode(frame))
        if sound:
            container.mux(_tone(sound, recipe.audio_start))
        container.mux(video.encode(None))
    return path


def _tone(stream: object, start_ms: int) -> list[av.Packet]:
    """Half a second of a tone."""
    wave = (np.sin(np.arange(24_000) / 20) * 8000).astype(np.int16)
    frame = av.AudioFrame.from_ndarray(np.repeat(wave[None], 2, 0), "s16p", "stereo")
    frame.sample_rate, frame.pts, frame.time_base = 48_000, start_ms * 48, Fraction(1, 48_000)
    resampler = av.AudioResampler(stream.codec_context.format, "stereo", 48_000, stream.frame_size or None)
    parts = resampler.resample(frame) + resampler.resample(None)
    return [packet for part in (*parts, None) for packet in stream.encode(part)]


def speaking(path: Path, language: str) -> Path:
    """Half a second of sound in a language."""
    with av.open(str(path), "w", format="matroska") as container:
        track = container.add_stream("aac", 48_000)
        track.metadata["language"] = language
        container.mux(_tone(track, 0))
    return path


def frames(path: Path, **options) -> list[Frame]:
    """All frames of a video."""
    with open_video(path, ReadOptions(**options)) as video:
        return list(video.frames())


def times(path: Path, **options) -> list[Fraction]:
    """When every frame starts, in seconds."""
    with open_video(path, ReadOptions(**options)) as video:
        return [frame.pts * video.info.time_base for frame in video.frames()]


def spans(path: Path) -> list[tuple[Fraction, Fraction]]:
    """(start, duration) of every frame in seconds."""
    with open_video(path) as video:
        base = video.info.time_base
        return [(frame.pts * base, frame.duration * base) for frame in video.frames()]


def sound(path: Path) -> list[list[tuple[str, Fraction]]]:
    """(md5, start in seconds) of every audio packet, per track."""
    with av.open(str(path)) as container:
        tracks = list(container.streams.audio)
        found: dict[int, list] = {track.index: [] for track in tracks}
        for packet in container.demux(tracks) if tracks else ():
            if packet.size:
                stamp = packet.pts if packet.pts is not None else packet.dts
                found[packet.stream.index].append(
                    (hashlib.md5(bytes(packet)).hexdigest(), stamp * packet.time_base)
                )
    return list(found.values())


def rewrite(source: Path, target: Path, options: SinkOptions | None = None) -> list[str]:
    """Read `source`, write `target`, sound by way of its own file; what the sink had to say."""
    carried = target.with_name(f"{target.name}.mka")
    packets = copy_audio(source, carried)
    with (
        open_video(source) as video,
        open_sink(target, video.info.picture(), carried if packets else None, options) as sink,
    ):
        for frame in video.frames():
            sink.write(frame.rgb, frame.pts, frame.duration)
    return sink.notices

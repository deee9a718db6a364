"""Films: MP4, MOV, MKV and WebM, through libav."""

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Self

import av
import numpy as np
from av import Packet
from av.container import OutputContainer
from av.error import FFmpegError
from av.video.stream import VideoStream

from vidlatent.errors import UsageError, VidlatentError
from vidlatent.files import replace_on_close
from vidlatent.io.audio import AudioFeed
from vidlatent.io.colour import YuvWriter, output_colour, stamp
from vidlatent.io.ffmpeg import reason
from vidlatent.io.sink_options import SinkOptions
from vidlatent.io.video_info import Picture

_FALLBACK_RATE = Fraction(25)


@dataclass(frozen=True)
class _Format:
    """A container and what it is written with unless asked otherwise."""

    name: str
    codec: str
    crf: float


FORMATS = {
    ".mp4": _Format("mp4", "libx264", 18),
    ".m4v": _Format("mp4", "libx264", 18),
    ".mov": _Format("mov", "libx264", 18),
    ".mkv": _Format("matroska", "libx264", 18),
    ".webm": _Format("webm", "libvpx-vp9", 24),
}


class MovieSink:
    """A VideoSink for one film: see video_sink.VideoSink."""

    def __init__(
        self, path: Path, picture: Picture, audio: Path | None, options: SinkOptions, origin: Fraction
    ) -> None:
        self._path = path
        self._picture = picture
        self._audio = audio
        self._options = options
        self._origin = origin
        self._format = FORMATS[path.suffix.lower()]
        self._colour = output_colour(picture.colour)
        self._durations: dict[int, int] = {}
        self._origin_ticks: int | None = None
        self._feed: AudioFeed | None = None
        self.notices: list[str] = []

    def __enter__(self) -> Self:
        with ExitStack() as stack:  # an error while opening removes the partial file
            partial = stack.enter_context(replace_on_close(self._path))
            stack.enter_context(self._naming_errors())
            self._container = stack.enter_context(self._open(partial))
            self._video = self._add_video()
            self._stack = stack.pop_all()
        return self

    @contextmanager
    def _naming_errors(self) -> Iterator[None]:
        try:
            yield
        except FFmpegError as e:
            if isinstance(e, OSError):  # named by whoever opened the partial file
                raise OSError(e.errno, e.strerror) from e
            raise VidlatentError(f"{self._path}: cannot be written ({reason(e)})") from e

    def _open(self, partial: Path) -> OutputContainer:
        options = {"movflags": "+faststart", "movie_timescale": str(self._timescale)}
        container = av.open(
            str(partial),
            "w",
            format=self._format.name,
            container_options=options if self._format.name in ("mp4", "mov") else {},
        )
        container.metadata.update({k: v for k, v in self._picture.tags.items() if k != "language"})
        return container

    @property
    def _timescale(self) -> int:
        """Ticks per second of the film: with it, edit lists are as exact as the frames' own times."""
        return self._picture.time_base.denominator

    def _add_video(self) -> VideoStream:
        picture, options = self._picture, self._options
        codec = options.codec or self._format.codec
        rate = (picture.rate or _FALLBACK_RATE).limit_denominator(1_000_000)
        try:
            stream = self._container.add_stream(codec, rate, options=self._encoder_options(codec))
        except (FFmpegError, ValueError) as e:
            raise UsageError(
                f"{self._path}: cannot hold {codec} ({reason(e)})", "choose another --codec"
            ) from e
        stream.width, stream.height = picture.width, picture.height
        stream.pix_fmt = options.pix_fmt or self._pix_fmt()
        stream.codec_context.time_base = picture.time_base
        stream.time_base = picture.time_base
        stream.codec_context.sample_aspect_ratio = picture.sar
        stamp(stream.codec_context, self._colour)
        self._to_yuv = YuvWriter(stream.pix_fmt, self._colour)
        return stream

    def _encoder_options(self, codec: str) -> dict[str, str]:
        crf = self._options.crf if self._options.crf is not None else self._format.crf
        options = {"crf": f"{crf:g}"}
        if self._options.preset:
            options["preset"] = self._options.preset
        if codec == "libvpx-vp9":
            options |= {"b": "0", "row-mt": "1"}
        return options

    def _pix_fmt(self) -> str:
        """4:2:0, but full chroma where a side is odd, since H.264 cannot crop half a chroma sample."""
        odd = self._picture.width % 2 or self._picture.height % 2
        if odd:
            self.notices.append("odd size: written as 4:4:4, since 4:2:0 H.264 must be even")
        return ("yuv444p" if odd else "yuv420p") + ("10le" if self._picture.bit_depth > 8 else "")

    def write(self, rgb: np.ndarray, pts: int, duration: int) -> None:
        """Add a frame; see video_sink.VideoSink."""
        expected = (self._picture.height, self._picture.width, 3)
        if rgb.shape != expected:
            raise ValueError(f"frame of shape {rgb.shape} for a picture of {expected}")
        if self._origin_ticks is None:
            self._start(pts)
        tick = pts - self._origin_ticks
        frame = self._to_yuv(np.ascontiguousarray(rgb))
        frame.pts, frame.time_base, frame.duration = tick, self._picture.time_base, duration
        self._durations[tick] = duration
        self._mux(self._video.encode(frame))

    def _start(self, first_pts: int) -> None:
        """Fix where zero lies: at the origin, or at a first frame before it, since files cannot go below."""
        base = self._picture.time_base
        self._origin_ticks = min(round(self._origin / base), first_pts)
        if first_pts < round(self._origin / base):
            self.notices.append("times start below zero, moved so that the first frame is at zero")
        if self._audio is not None:
            self._feed = AudioFeed(self._audio, self._container, -self._origin_ticks * base)
            self._stack.callback(self._feed.close)

    def _mux(self, packets: list[Packet]) -> None:
        for packet in packets:
            packet.duration = self._durations.pop(packet.pts)
            if self._feed is not None:
                self._feed.until(packet.dts * packet.time_base)
            self._container.mux(packet)

    def __exit__(self, *exc: object) -> None:
        if exc[0] is not None:
            self._stack.__exit__(*exc)
            return
        with self._stack:
            self._finish()

    def _finish(self) -> None:
        if self._origin_ticks is None:
            raise VidlatentError(f"{self._path}: no frames to write")
        self._mux(self._video.encode(None))
        if self._feed is not None:
            self._feed.until(None)

"""Writes films (MP4, MOV, MKV and WebM) through libav."""

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Self

import numpy as np
from av import Packet
from av.container import OutputContainer
from av.error import FFmpegError
from av.video.stream import VideoStream

from vidlatent.errors import UsageError, VidlatentError
from vidlatent.files import Kind, replace_on_close
from vidlatent.io.containers import create_file
from vidlatent.io.file_parts import FilePart
from vidlatent.io.picture.colour import YuvWriter
from vidlatent.io.picture.info import Picture
from vidlatent.io.picture.resample import resize, to_square_pixels
from vidlatent.io.picture.timeline import MOST_TICKS
from vidlatent.io.read.ffmpeg import reason
from vidlatent.io.sound.copy import AudioFeed
from vidlatent.io.sound.lane import EXPERIMENTAL
from vidlatent.io.sound.languages import spell_language
from vidlatent.io.write.encoders import SinkOptions, choose_encoding, configure


@dataclass(frozen=True)
class _Container:
    """A kind of container: its libav name, and the codecs that are used unless others are asked for."""

    name: str
    codec: str = "libx264"
    deep_codec: str = "libx264"
    dropped_tags: frozenset[str] = frozenset()  # tags that its muxer drops

    def codec_for(self, picture: Picture) -> str:
        """The default encoder for a picture."""
        return self.deep_codec if picture.bit_depth > 8 else self.codec

    @property
    def options(self) -> dict[str, str]:
        """Settings of the muxer."""
        if self.name in ("mp4", "mov"):
            return {"movflags": "+faststart", **EXPERIMENTAL}
        # Sound may start below zero; without this the muxer would shift all times, those of pictures too.
        return {"avoid_negative_ts": "disabled"}


FORMATS = {
    ".mp4": _Container("mp4"),
    ".m4v": _Container("mp4"),
    ".mov": _Container("mov", dropped_tags=frozenset({"description"})),
    ".mkv": _Container("matroska"),
    ".webm": _Container("webm", "libvpx-vp9", "libsvtav1"),
}
FILM = Kind(
    "a film (MP4, MOV, MKV or WebM)", (b"ftyp", b"moov", b"mdat", b"wide", b"free", b"\x1a\x45\xdf\xa3")
)
# PyAV cannot set Matroska's own field for the sample aspect, so there the bitstream must state it.
_CODECS_WITH_ASPECT = ("libx264", "libx265", "mpeg4", "mpeg2video")


class MovieSink:
    """A VideoSink for one film; see `sink.VideoSink`."""

    def __init__(
        self,
        path: Path,
        picture: Picture,
        audio: Path | FilePart | None,
        options: SinkOptions,
        origin: Fraction,
    ) -> None:
        self._path = path
        self._given = (picture.height, picture.width, 3)
        self._picture = picture
        self._audio = audio
        self._options = options
        self._origin = origin
        self._format = FORMATS[path.suffix.lower()]
        self._durations: dict[int, int] = {}
        self._origin_ticks: int | None = None
        self._last_tick: int | None = None
        self._last_millisecond: int | None = None
        self._crowded = 0  # frames that share their millisecond with the one before
        self._moved, self._furthest = 0, 0  # frames that had to be moved, and by how many ticks at most
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
            if isinstance(e, OSError):  # replace_on_close names the file
                raise OSError(e.errno, e.strerror) from e
            raise VidlatentError(f"{self._path}: cannot be written ({reason(e)})") from e

    def _open(self, partial: Path) -> OutputContainer:
        options = self._format.options
        if self._format.name in ("mp4", "mov"):  # edit lists as exact as the frames' own times
            options["movie_timescale"] = str(self._picture.time_base.denominator)
        container = create_file(partial, self._format.name, container_options=options)
        container.metadata.update({k: v for k, v in self._picture.tags.items() if k != "language"})
        container.set_chapters(self._chapters())
        return container

    def _chapters(self) -> list[dict]:
        base = Fraction(1, 1000)
        return [
            {
                "id": number,
                "start": round(c.start / base),
                "end": round(c.end / base),
                "time_base": base,
                "metadata": {"title": c.title},
            }
            for number, c in enumerate(self._picture.chapters)
        ]

    def _choose_picture(self, codec: str) -> Picture:
        """The picture to encode, in square pixels where asked or where the file cannot state the aspect."""
        picture = self._picture
        told = self._format.name in ("mp4", "mov") or codec in _CODECS_WITH_ASPECT
        if picture.sar == 1 or (told and not self._options.square_pixels):
            return picture
        square = to_square_pixels(picture)
        if not self._options.square_pixels:
            self.notices.append(
                f"{codec} in {self._format.name} cannot tell pixels of {picture.sar}: "
                f"scaled to square ones, {square.width}x{square.height}"
            )
        return square

    def _add_video(self) -> VideoStream:
        codec = self._options.codec or self._format.codec_for(self._picture)
        picture = self._picture = self._choose_picture(codec)
        encoding = choose_encoding(codec, picture, self._options)
        self.notices += encoding.notices
        try:
            stream = self._container.add_stream(codec)
        except ValueError as e:
            raise UsageError(f"{self._path}: this kind of file cannot hold {codec}", "try .mkv") from e
        configure(stream.codec_context, encoding, picture)
        stream.time_base = picture.time_base
        self._label(stream)
        self._to_yuv = YuvWriter(encoding.pix_fmt, encoding.colour)
        return stream

    def _label(self, stream: VideoStream) -> None:
        """Set the language of the pictures; add notices of the tags that this container cannot hold."""
        name, tags = self._format.name, self._picture.tags
        if language := tags.get("language"):
            stream.metadata["language"] = spell_language(language, name) or "und"
            if spell_language(language, name) is None:
                self.notices.append(f"{name} cannot tell the language {language} of its pictures: left out")
        self.notices += [
            f"{name} cannot tell the {word}: left out" for word in self._format.dropped_tags & set(tags)
        ]

    def write(self, rgb: np.ndarray, pts: int, duration: int) -> None:
        """Add a frame; see `sink.VideoSink`."""
        if rgb.shape != self._given:
            raise ValueError(f"frame of shape {rgb.shape} for a picture of {self._given}")
        rgb = resize(rgb, (self._picture.width, self._picture.height))
        if self._origin_ticks is None:
            self._start(pts)
        tick = self._find_place(pts - self._origin_ticks)
        self._refuse_leap(tick)
        self._note_time(tick)
        frame = self._to_yuv(np.ascontiguousarray(rgb))
        frame.pts, frame.time_base, frame.duration = tick, self._picture.time_base, duration
        self._durations[tick] = duration
        self._mux(self._video.encode(frame))

    def _find_place(self, tick: int) -> int:
        """The time of a frame, later where the frame before it is there already: no film has two at once."""
        place = tick if self._last_tick is None else max(tick, self._last_tick + 1)
        self._moved += place > tick
        self._furthest = max(self._furthest, place - tick)
        return place

    def _refuse_leap(self, tick: int) -> None:
        """Raise UsageError where MP4 or MOV cannot say how long the frame before this one lasts."""
        gap, self._last_tick = tick - (self._last_tick or 0), tick
        if self._format.name in ("mp4", "mov") and gap > MOST_TICKS:
            at, seconds = (float(ticks * self._picture.time_base) for ticks in (tick - gap, gap))
            raise UsageError(
                f"{self._path}: the clock leaps by {seconds:,.0f} s at {at:,.3f} s, too far for this format",
                "write an .mkv, or cut the clip there",
            )

    def _note_time(self, tick: int) -> None:
        """Count frames to which Matroska and WebM give the time of the one before: they know milliseconds."""
        if self._format.name in ("matroska", "webm"):
            milliseconds = round(tick * self._picture.time_base * 1000)
            self._crowded += milliseconds == self._last_millisecond
            self._last_millisecond = milliseconds

    def _start(self, first_pts: int) -> None:
        """Choose the film's time zero: the origin, or an earlier first frame: no time may be negative."""
        base = self._picture.time_base
        self._origin_ticks = min(round(self._origin / base), first_pts)
        if first_pts < round(self._origin / base):
            self.notices.append("times start below zero, moved so that the first frame is at zero")
        if self._audio is not None:
            self._feed = AudioFeed(self._audio, self._container, -self._origin_ticks * base)
            self._stack.callback(self._feed.close)
            self.notices += self._feed.notices

    def _mux(self, packets: list[Packet]) -> None:
        for packet in packets:
            packet.duration = self._durations.pop(packet.pts)
            if self._feed is not None:
                self._feed.mux_until(packet.dts * packet.time_base)
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
        if self._crowded:
            self.notices.append(
                f"{self._format.name} counts milliseconds: {self._crowded} frames have the time of the frame "
                "before (.mp4 and .mov keep them apart)"
            )
        if self._moved:
            late = float(self._furthest * self._picture.time_base)
            self.notices.append(
                f"{self._moved} frames have the time of the one before them: shown up to {late:g} s later"
            )
        if self._feed is not None:
            self._feed.mux_until(None)
            self.notices += self._feed.losses()

"""One video stream of one container, read through libav."""

from collections.abc import Iterator
from itertools import islice
from typing import Self

from av import VideoFrame
from av.error import FFmpegError
from av.sidedata.sidedata import Type as SideData

from vidlatent.errors import BadVideo
from vidlatent.io import colour as colours
from vidlatent.io.ffmpeg import open_input, reason, use_threads
from vidlatent.io.integrity import missing_bytes
from vidlatent.io.orientation import Orientation, odd_angle
from vidlatent.io.probe import describe, pick_stream
from vidlatent.io.timeline import Timeline
from vidlatent.io.video_info import Frame, ReadOptions

Timed = tuple[VideoFrame, int, int]  # picture, pts and duration in ticks
_BROKEN = "use --allow-truncated to keep the frames before this one"


class LibavSource:
    """A VideoSource over libav: see video_source.VideoSource."""

    def __init__(self, path: str, options: ReadOptions) -> None:
        self._path = path
        self._options = options
        self.notices: list[str] = []
        self._container = open_input(path, options.hwaccel)
        try:
            self._open()
        except BaseException:
            self._container.close()
            raise

    def _open(self) -> None:
        self._stream = pick_stream(self._path, self._container, self._options.stream)
        use_threads(self._stream, self._options.threads)
        self._timeline = Timeline(self._stream.time_base, self._stream.guessed_rate)
        self._decoded = 0
        self._concealed = 0
        self._pictures = self._decode()
        first = next(self._pictures, None)
        if first is None:
            raise BadVideo(f"{self._path}: no frame can be decoded")
        self._first = first
        matrix = first.side_data.get(SideData.DISPLAYMATRIX)
        self._orientation = Orientation.of_matrix(bytes(matrix)) if matrix else Orientation()
        self._colour = self._colour_of(first)
        self.info = describe(
            self._path, self._container, self._stream, first, self._orientation, self._colour, self._timeline
        )
        self._note_assumptions(first, bytes(matrix) if matrix else None)
        self._reader = colours.RgbReader(self.info.deep, threads=1)

    def _note_assumptions(self, first: VideoFrame, matrix: bytes | None) -> None:
        info = self.info
        if guessed := [name for name in ("matrix", "range") if name in info.colour.assumed]:
            said = ", ".join(f"{name} {getattr(info.colour, name)}" for name in guessed)
            self.notices.append(f"colour not tagged, assumed: {said}")
        if colours.has_alpha(first.format):
            self.notices.append("transparency dropped")
        if matrix and (angle := odd_angle(matrix)) is not None:
            self.notices.append(f"display rotation of {angle:.1f}° rounded to {info.rotation}°")
        if info.interlaced:
            self.notices.append("interlaced: both fields are in each frame (--deinterlace to separate them)")
        if info.video_streams > 1:
            self.notices.append(f"{info.video_streams} video streams, reading #{self._options.stream}")

    def _colour_of(self, frame: VideoFrame) -> colours.Colour:
        tags = colours.Tags.of(frame).either(colours.Tags.of(self._stream.codec_context))
        return colours.resolve(tags, frame.format, frame.height, self._options.assume_matrix)

    def _decode(self) -> Iterator[VideoFrame]:
        """Every frame the decoder gives, in display order."""
        try:
            for packet in self._container.demux(self._stream):
                for frame in packet.decode():
                    self._decoded += 1
                    self._concealed += frame.is_corrupt
                    yield frame
        except FFmpegError as e:
            self._broken(f"frame {self._decoded} cannot be decoded ({reason(e)})", e)
        if missing := missing_bytes(self._path):
            self._broken(f"frame {self._decoded}: the file ends {missing:,} bytes early", None)

    def _broken(self, what: str, cause: Exception | None) -> None:
        if not self._options.allow_truncated:
            raise BadVideo(f"{self._path}: {what}", _BROKEN) from cause
        self.notices.append(f"{what}; {self._decoded} frames kept")

    def frames(self) -> Iterator[Frame]:
        """The frames in order, each once; see video_source.VideoSource."""
        asked = islice(self._within(self._timed()), self._options.frames)
        for picture, tick, duration in asked:
            yield Frame(self._orientation.apply(self._reader(picture, self._colour)), tick, duration)
        self._note_repairs()

    def _within(self, timed: Iterator[Timed]) -> Iterator[Timed]:
        """Those with start <= pts < end."""
        base, options = self._timeline.time_base, self._options
        for picture, tick, duration in timed:
            if options.end is not None and tick * base >= options.end:
                return
            if options.start is None or tick * base >= options.start:
                yield picture, tick, duration

    def _timed(self) -> Iterator[Timed]:
        """Every picture with its tick and duration, one picture behind the decoder."""
        waiting: tuple[VideoFrame, int] | None = None  # shown until the next frame comes
        own = previous_own = None
        for picture in self._all():
            tick = self._timeline.place(picture.pts, picture.dts)
            if waiting is not None:
                yield *waiting, tick - waiting[1]
            waiting = picture, tick
            own, previous_own = picture.duration or 0, own
        if waiting is not None:
            yield *waiting, self._timeline.final_duration(own, previous_own)

    def _all(self) -> Iterator[VideoFrame]:
        yield self._first
        yield from self._pictures

    def _note_repairs(self) -> None:
        line = self._timeline
        for count, what in (
            (line.guessed, "without a timestamp, placed by frame rate"),
            (line.moved, "whose timestamp did not advance, placed one tick after the frame before"),
            (line.leaps, "where the clock leaps back, time continued"),
            (self._concealed, "that the decoder marks as damaged"),
        ):
            if count:
                self.notices.append(f"{count} frames {what}")

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        self._pictures.close()
        self._container.close()

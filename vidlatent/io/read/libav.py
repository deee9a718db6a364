"""Reads one video stream of one container through libav."""

from collections.abc import Iterator
from dataclasses import replace
from fractions import Fraction
from functools import partial
from itertools import chain
from typing import Self

from av import VideoFrame
from av.container import InputContainer
from av.sidedata.sidedata import Type as SideData
from av.video.stream import VideoStream

from vidlatent.errors import BadVideo, UsageError, parameter
from vidlatent.io.picture import colour as colours
from vidlatent.io.picture.colour import Colour, Tags
from vidlatent.io.picture.cropping import Insets, read_insets
from vidlatent.io.picture.dolby_vision import FOREIGN_PROFILE, read_profile
from vidlatent.io.picture.info import Frame, ReadOptions
from vidlatent.io.picture.integrity import is_header_unfinished
from vidlatent.io.picture.layers import has_second_layer, keeps_alpha_apart
from vidlatent.io.picture.orientation import Orientation, odd_angle
from vidlatent.io.picture.pages import count_pages
from vidlatent.io.picture.resample import Framing, Rate, select
from vidlatent.io.picture.side_data import read_side_data
from vidlatent.io.picture.siting import left_siting, needs_left_siting
from vidlatent.io.picture.timeline import Timeline, bound_rate
from vidlatent.io.picture.tonemap import SDR, tonemap
from vidlatent.io.read.bare_frames import Pipe
from vidlatent.io.read.ffmpeg import naming_errors, open_input, use_threads
from vidlatent.io.read.pictures import Pictures, deinterlace
from vidlatent.io.read.probe import describe, left_out, pick_stream, stream_duration, unknown_sound
from vidlatent.io.sources.pipe import PipeSource
from vidlatent.io.sources.source import Source, look_into

Timed = tuple[VideoFrame, int, int]  # picture, pts and duration in ticks
# Containers with an index of presentation times; elsewhere a seek may land anywhere, so reading starts at 0.
_SEEKABLE = ("mov,mp4", "matroska,webm")
_SHORTFALL_STEPS = Fraction(3, 4)  # frames
_LAST_TICK = (1 << 63) - 1  # that libav can say
_SEEK_MARGIN_S = 1  # first pictures after a seek may lack what they refer to


class LibavSource:
    """A VideoSource over libav; see `source.VideoSource`."""

    def __init__(self, source: Source, options: ReadOptions) -> None:
        self._source, self._path = source, source.name
        self._options = replace(options, fps=options.fps and bound_rate(options.fps))
        self._pipe = Pipe(source.stream) if isinstance(source, PipeSource) else None
        self.notices: list[str] = []
        if self._options.fps != options.fps:
            self.notices.append(f"{float(options.fps):.10g} frames per second taken as {self._options.fps}")
        self._container, self._stream = self._open()
        try:
            self._begin()
        except BaseException:
            self._container.close()
            raise

    def _open(self) -> tuple[InputContainer, VideoStream]:
        container = open_input(self._source, self._options.hwaccel, self._options.raw, self._pipe)
        try:
            stream = pick_stream(self._path, container, self._options.stream)
            use_threads(stream, self._options.threads)
        except BaseException:
            container.close()
            raise
        return container, stream

    def _begin(self) -> None:
        """Decode the first picture wanted and learn from it what the header does not say."""
        self._refuse_foreign_colours()
        first = self._first_picture()
        self._timeline = Timeline(self._stream.time_base, self._stream.guessed_rate)
        matrix = read_side_data(first, SideData.DISPLAYMATRIX)
        self._orientation = Orientation.of_matrix(matrix) if matrix else Orientation()
        self._window = self._window_of(first)
        self._colours: dict[tuple[Tags, str], Colour] = {}
        self._aspect = self._stream.codec_context.sample_aspect_ratio
        self._aspects = {self._aspect}
        codec = "" if self._options.raw else self._stream.codec_context.name  # raw frames come from any
        self._siting = left_siting() if needs_left_siting(first, codec) else None
        info = describe(
            self._path,
            self._container,
            self._stream,
            first,
            self._orientation,
            self._colour_of(first),
            self._timeline,
        )
        self._displayed = self._size_of(first)
        self._framing = Framing.plan(self._displayed, info.sar, self._options)
        window = (self._window.left, self._window.top, *self._window.size(first.width, first.height))
        self.info = replace(
            info,
            width=self._framing.canvas[0],
            height=self._framing.canvas[1],
            sar=self._framing.sar,
            window=window if self._window else None,
        )
        if self._options.fps is not None:
            fps = self._options.fps
            self.info = replace(self.info, time_base=Rate(fps).time_base, average_rate=fps)
        self._transfer = info.colour.transfer
        self._tonemapped = self._options.tonemap and info.colour.hdr and info.deep
        if self._tonemapped:
            self.info = replace(self.info, colour=SDR, mastering=None)
        self._reader = colours.RgbReader(info.deep, self._orientation, self._window, self._options.threads)
        self._note_assumptions(first, matrix)
        self._note_what_was_asked(first)

    def _refuse_foreign_colours(self) -> None:
        """Raise BadVideo where the pictures are in no colours known here, unless a matrix is assumed."""
        if self._options.assume_matrix is not None:
            return
        if look_into(self._source, read_profile) == FOREIGN_PROFILE:
            raise BadVideo(
                f"{self._path}: Dolby Vision profile {FOREIGN_PROFILE}, whose colours are no others'",
                f"convert it first, or read it all the same by {parameter('assume_matrix')}",
            )

    def _window_of(self, picture: VideoFrame) -> Insets:
        """The insets that the container asks for; none where they do not fit the picture."""
        track = self._stream.id, list(self._container.streams.video).index(self._stream)
        size = (picture.width, picture.height)
        window = look_into(self._source, partial(read_insets, track=track, size=size))
        if not window.fits(*size):
            self.notices.append("the container's cropping window does not fit the picture: not applied")
            return Insets()
        if window:
            cut = "x".join(map(str, window.size(*size)))
            self.notices.append(f"cropping window of the container: {cut} at ({window.left}, {window.top})")
        return window

    def _size_of(self, picture: VideoFrame) -> tuple[int, int]:
        """(width, height) of a picture as displayed."""
        return self._orientation.size(*self._window.size(picture.width, picture.height))

    def _first_picture(self) -> VideoFrame:
        self._origin = self._find_origin()
        sought = self._seek()
        first = self._decode()
        base, start = self._stream.time_base, self._options.start
        if sought and (first is None or first.pts is None or first.pts * base > start):
            self._container.close()
            self._container, self._stream = self._open()
            first = self._decode()
        if first is None:
            raise BadVideo(f"{self._path}: no frame can be decoded")
        return first

    def _find_origin(self) -> Fraction | None:
        """The time of the clip's first frame, where another rate counts from it and reading begins later."""
        if self._options.fps is None or not self._seeks():
            return None
        first, timeline = self._decode(), Timeline(self._stream.time_base, self._stream.guessed_rate)
        self._container.close()
        self._container, self._stream = self._open()
        return None if first is None else timeline.place(first.pts, first.dts) * timeline.time_base

    def _seeks(self) -> bool:
        """Whether reading begins by a seek: in containers where that is safe, but for times near the start.

        A pipe that is to be resampled is read from its beginning, where its first frame is.
        """
        start, resampled = self._options.start, self._options.fps is not None
        if start is None or start <= _SEEK_MARGIN_S or (resampled and self._pipe is not None):
            return False
        return self._container.format.name.startswith(_SEEKABLE)

    def _seek(self) -> bool:
        """Seek to a little before `start`, where that is safe; whether it did."""
        if not self._seeks():
            return False
        start = self._options.start
        with naming_errors(self._path, "cannot be sought"):
            offset = min(int((start - _SEEK_MARGIN_S) / self._stream.time_base), _LAST_TICK)
            self._container.seek(offset, stream=self._stream)
        return True

    def _decode(self) -> VideoFrame | None:
        """Start decoding at the container's position, and return the first picture."""
        self._pictures = Pictures(
            self._source, self._container, self._stream, self._options.allow_truncated, self._pipe
        )
        self._decoding = iter(self._pictures)
        first = next(self._decoding, None)
        if first is not None:
            self._decoding_all = chain([first], self._decoding)
        return first

    def _note_assumptions(self, first: VideoFrame, matrix: bytes | None) -> None:
        info = self.info
        if guessed := [name for name in ("matrix", "range") if name in info.colour.assumed]:
            said = ", ".join(f"{name} {getattr(info.colour, name)}" for name in guessed)
            self.notices.append(f"colour not tagged, assumed: {said}")
        apart = look_into(self._source, partial(keeps_alpha_apart, stream=self._stream))
        if apart or (colours.has_alpha(first.format) and info.codec != "gif"):
            self.notices.append("transparency dropped")
        elif look_into(self._source, has_second_layer):
            self.notices.append("a second layer of the video left out: transparency, or another eye")
        if matrix and (angle := odd_angle(matrix)) is not None:
            self.notices.append(f"display rotation of {angle:.1f}° rounded to {info.rotation}°")
        if info.interlaced and not self._options.deinterlace:
            self.notices.append("interlaced: both fields are in each frame (--deinterlace rebuilds them)")
        beside = apart and info.container.startswith("mov")  # a stream that is the transparency
        if info.video_streams > 1 + beside:
            self.notices.append(
                f"{info.video_streams} video streams, reading {self._options.stream} (--stream)"
            )
        if (pages := look_into(self._source, count_pages)) > 1:
            self.notices.append(f"an image of {pages} pictures: only the first is read")
        self.notices += unknown_sound(self._container) + left_out(self._container, self._stream)

    def _note_what_was_asked(self, first: VideoFrame) -> None:
        """Add notices about options that could not be followed, or that changed the pictures."""
        hwaccel = self._options.hwaccel
        if hwaccel and self._stream.codec_context.pix_fmt == first.format.name:  # not a device's own format
            self.notices.append(f"--hwaccel {hwaccel} cannot decode this video: decoded by software")
        if self._tonemapped:
            self.notices.append(f"tone-mapped from {self._transfer} to BT.709 (BT.2390, 1000 to 203 cd/m²)")
        elif self._options.tonemap:
            self.notices.append("nothing to tone-map: the video is not tagged as PQ or HLG")

    def _colour_of(self, frame: VideoFrame) -> Colour:
        key = (Tags.of(frame), frame.format.name)
        if key not in self._colours:
            tags = key[0].completed_by(Tags.of(self._stream.codec_context))
            lines, override = frame.height, self._options.assume_matrix
            colour = colours.resolve(tags, frame.format, lines, override)
            if not colours.is_convertible(colour.matrix):
                raise BadVideo(
                    f"{self._path}: colour matrix {colour.matrix} cannot be converted exactly",
                    f"use {parameter('assume_matrix')} to read it as another",
                )
            self._colours[key] = colour
        return self._colours[key]

    def frames(self) -> Iterator[Frame]:
        """The frames in order, each once; see `source.VideoSource`."""
        empty = True
        timed, base = self._with_times(), self._timeline.time_base
        told = self.notices.append
        for picture, tick, duration in select(timed, base, self._options, self._origin, told):
            yield Frame(self._convert(picture), tick, duration)
            empty = False
        if empty:
            raise UsageError(
                f"{self._path}: no frame in the span asked for",
                f"see {parameter('start')}, {parameter('end')} and {parameter('frames')}",
            )
        self.notices += self._pictures.notices() + self._timeline.notices()
        if self._aspects > {self._aspect}:
            others = ", ".join(str(aspect) for aspect in sorted(self._aspects - {self._aspect}))
            self.notices.append(
                f"the pixel aspect changes from {self._aspect} to {others}: the first is kept"
            )
        if self._pictures.complete:
            self._note_missing()

    def _note_missing(self) -> None:
        """Add notices where the header states more than was found, as with edit lists or a damaged index."""
        if look_into(self._source, is_header_unfinished):
            return
        counted, promised = self._pictures.count, self.info.header_frames or 0
        if counted < promised and self._options.start is None:
            self.notices.append(f"the header counts {promised} frames, {counted} are shown")
        if short := self._find_shortfall():
            self.notices.append(f"the header promises {float(short):.2f} s more than there are frames for")

    def _find_shortfall(self) -> Fraction | None:
        """By how many seconds the frames end before the header says, where that is worth a notice.

        Where only the file as a whole has a duration, its sound may well last a little longer than the
        pictures.
        """
        own = stream_duration(self._stream)
        promised = own or self.info.header_duration
        if promised is None:
            return None
        begin = (self._stream.start_time or 0) * self._stream.time_base
        if self.info.container.startswith("matroska"):  # there a duration counts from zero
            begin = 0
        missing = begin + promised - self._timeline.end
        worth = max(_SHORTFALL_STEPS * self._timeline.step, 0 if own else promised / 4)
        return missing if missing > worth else None

    def _with_times(self) -> Iterator[Timed]:
        """Every picture with its tick and duration, which is known once the next picture was decoded."""
        waiting: tuple[VideoFrame, int] | None = None  # shown until the next frame comes
        own = previous_own = None
        broken: BadVideo | None = None
        try:
            for picture in self._maybe_deinterlace():
                tick = self._timeline.place(picture.pts, picture.dts)
                if waiting is not None:
                    yield *waiting, tick - waiting[1]
                waiting = picture, tick
                own, previous_own = picture.duration or 0, own
        except BadVideo as e:  # raised once every frame before the damage was delivered
            broken = e
        if waiting is not None:
            yield *waiting, self._timeline.final_duration(own, previous_own)
        if broken is not None:
            raise broken

    def _maybe_deinterlace(self) -> Iterator[VideoFrame]:
        if self._options.deinterlace:
            return deinterlace(self._decoding_all, self._stream.time_base)
        return self._decoding_all

    def _convert(self, picture: VideoFrame) -> object:
        """RGB [height, width, 3] of a picture, as `info` promises it."""
        framing, size = self._framing, self._size_of(picture)
        if size != self._displayed:
            if self._options.size is None:
                was, now = ("x".join(map(str, s)) for s in (self._displayed, size))
                raise BadVideo(
                    f"{self._path}: the picture changes from {was} to {now} on the way",
                    f"use {parameter('size')} to scale all",
                )
            framing = Framing.plan(size, Fraction(1), self._options)
        self._aspects.add(self._stream.codec_context.sample_aspect_ratio or self._aspect)
        sited = picture if self._siting is None else self._siting(picture)
        rgb = self._reader(sited, self._colour_of(picture))
        rgb = framing.apply(rgb)
        return tonemap(rgb, self._transfer) if self._tonemapped else rgb

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        self._decoding.close()
        self._container.close()

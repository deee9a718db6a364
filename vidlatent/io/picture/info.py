"""What is known about a video, what a reader may be asked for, and the frames that it delivers."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields
from fractions import Fraction

import numpy as np

from vidlatent.io.picture import facts
from vidlatent.io.picture.colour import Colour
from vidlatent.io.picture.mastering import Mastering
from vidlatent.json_values import to_json_values
from vidlatent.quantities import Number, to_rate, to_seconds


@dataclass(frozen=True)
class AudioTrack:
    """One audio stream: `index` among all streams of the file; `start` in seconds, None if unknown."""

    index: int
    codec: str
    rate: int
    channels: int
    language: str | None
    start: Fraction | None


@dataclass(frozen=True)
class Chapter:
    """A named stretch of a film, in seconds."""

    start: Fraction
    end: Fraction
    title: str


@dataclass(frozen=True)
class VideoInfo:
    """One video stream as its header and first frame describe it.

    `width` and `height` are those of the delivered frames: after the cropping window, the rotation, and
    `ReadOptions.crop` and `size`. The sample aspect ratio `sar` is not applied, only stated. The container's
    `window` (left, top, width, height of the stored picture), `rotation` (clockwise degrees) and then `flip`
    (left to right) have been applied. `header_frames` and `header_duration` are what the header claims;
    nobody has counted them. `counted_frames` is the number of delivered frames, where it is certain before
    the first one is read.
    """

    path: str
    container: str
    codec: str
    pix_fmt: str
    width: int
    height: int
    coded_width: int
    coded_height: int
    rotation: int
    flip: bool
    sar: Fraction
    colour: Colour
    bit_depth: int
    time_base: Fraction
    average_rate: Fraction | None
    header_frames: int | None
    header_duration: Fraction | None
    interlaced: bool
    audio: tuple[AudioTrack, ...] = ()
    video_streams: int = 1
    tags: Mapping[str, str] = field(default_factory=dict)
    chapters: tuple[Chapter, ...] = ()
    mastering: Mastering | None = None
    window: tuple[int, int, int, int] | None = None
    counted_frames: int | None = None

    @property
    def deep(self) -> bool:
        """Whether frames are delivered as uint16."""
        return self.bit_depth > 8

    def picture(self) -> "Picture":
        """The facts that a sink needs to write this clip."""
        return Picture(
            width=self.width,
            height=self.height,
            sar=self.sar,
            colour=self.colour,
            bit_depth=self.bit_depth,
            time_base=self.time_base,
            rate=self.average_rate,
            tags=dict(self.tags),
            chapters=self.chapters,
            mastering=self.mastering,
        )


@dataclass(frozen=True)
class Picture:
    """What a sink must know of the frames it writes: size, aspect, colour, clock, and the clip's tags."""

    width: int
    height: int
    sar: Fraction
    colour: Colour
    bit_depth: int
    time_base: Fraction
    rate: Fraction | None
    tags: Mapping[str, str] = field(default_factory=dict)
    chapters: tuple[Chapter, ...] = ()
    mastering: Mastering | None = None

    def to_json(self) -> dict:
        """As plain JSON values; fractions as "num/den"."""
        return to_json_values(asdict(self))

    @classmethod
    def from_json(cls, data: Mapping) -> "Picture":
        """The inverse of to_json; unknown members are ignored. Raises ValueError where a fact cannot be."""
        found = {name: facts.member(facts.table(data, "picture"), name, "picture") for name in _PICTURE}
        rate, mastering = found["rate"], data.get("mastering")
        facts.table(data.get("reading", {}), "picture.reading")
        return cls(
            width=facts.integer(found["width"], "picture.width", 1, facts.MOST_PX),
            height=facts.integer(found["height"], "picture.height", 1, facts.MOST_PX),
            sar=facts.ratio(found["sar"], "picture.sar"),
            colour=_read_colour(found["colour"]),
            bit_depth=facts.integer(found["bit_depth"], "picture.bit_depth", 1, 32),
            time_base=facts.ratio(found["time_base"], "picture.time_base"),
            rate=None if rate is None else facts.ratio(rate, "picture.rate"),
            tags=_read_tags(found["tags"]),
            chapters=tuple(map(_read_chapter, facts.array(found["chapters"], "picture.chapters"))),
            mastering=None if mastering is None else Mastering.from_json(mastering),
        )


_PICTURE = ("width", "height", "sar", "colour", "bit_depth", "time_base", "rate", "tags", "chapters")


def _read_colour(value: object) -> Colour:
    found = facts.table(value, "picture.colour")
    names = {
        name: facts.text(facts.member(found, name, "picture.colour"), f"picture.colour.{name}")
        for name in ("matrix", "range", "transfer", "primaries")
    }
    assumed = facts.array(found.get("assumed", ()), "picture.colour.assumed")
    return Colour(**names, assumed=tuple(facts.text(name, "picture.colour.assumed") for name in assumed))


def _read_tags(value: object) -> dict[str, str]:
    found = facts.table(value, "picture.tags")
    return {
        facts.text(key, "picture.tags"): facts.text(tag, f"picture.tags.{key}") for key, tag in found.items()
    }


def _read_chapter(value: object) -> Chapter:
    found = facts.table(value, "picture.chapters")
    start, end, title = (facts.member(found, name, "picture.chapters") for name in ("start", "end", "title"))
    return Chapter(
        facts.seconds(start, "picture.chapters.start"),
        facts.seconds(end, "picture.chapters.end"),
        facts.text(title, "picture.chapters.title"),
    )


@dataclass(frozen=True)
class RawFrames:
    """The layout of frames in a file or pipe that has no header; `pix_fmt` is a libav name."""

    width: int
    height: int
    pix_fmt: str
    rate: Fraction

    def __str__(self) -> str:
        return f"{self.width}x{self.height}:{self.pix_fmt}:{self.rate}"


@dataclass(frozen=True)
class ReadOptions:
    """What part of a video to read, and how.

    `start` and `end` are seconds on the source's own clock: frames with start <= pts < end are delivered,
    `frames` of them at most. `fps` resamples by timestamp, before those count: see `resample.Rate`. All three
    may be given as a number or its text, and become fractions: 29.97 is 2997/100. `crop`
    (left, top, width, height) cuts displayed pixels, then `size` (width, height) scales them; where the
    aspect differs, `fit` is "stretch", "crop" (fill `size` and cut the rest) or "pad" (whole picture, black
    bars). `stream` is the number of the video stream, from 0. `assume_matrix` is used instead of the colour
    matrix that the video names or lacks. `allow_truncated` keeps the frames before the place where a file is
    torn, instead of failing. `threads` decode (0: as many as there are cores). `raw` is the layout of a file
    or of stdin that has no header.
    """

    start: Number | None = None
    end: Number | None = None
    frames: int | None = None
    fps: Number | None = None
    size: tuple[int, int] | None = None
    crop: tuple[int, int, int, int] | None = None
    fit: str = "stretch"
    stream: int = 0
    assume_matrix: str | None = None
    deinterlace: bool = False
    tonemap: bool = False
    hwaccel: str | None = None
    allow_truncated: bool = False
    threads: int = 0
    raw: RawFrames | None = None

    def __post_init__(self) -> None:
        for name, convert in (("start", to_seconds), ("end", to_seconds), ("fps", to_rate)):
            object.__setattr__(self, name, convert(getattr(self, name), name))


@dataclass(frozen=True)
class Frame:
    """One picture and its time.

    `rgb` is [H, W, 3] of the displayed pixels, uint8, or uint16 over 0..65535 where the source has more than
    8 bits. `pts` strictly increases, and `duration` reaches to the next frame; both are in units of
    `VideoInfo.time_base`.
    """

    rgb: np.ndarray
    pts: int
    duration: int


def describe_reading(info: VideoInfo, options: ReadOptions) -> dict[str, object]:
    """What was done to a file's stored pictures before they were delivered, as plain JSON values.

    That is what the container asks for, and those `options` that are not the default and change frames.
    """
    plain = {f.name: f.default for f in fields(ReadOptions)}
    asked = {name: value for name, value in asdict(options).items() if value != plain[name]}
    asked.pop("threads", None)
    return to_json_values(
        {"window": info.window, "rotation": info.rotation, "flip": info.flip, "asked": asked}
    )

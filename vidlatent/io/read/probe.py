"""What a container says about itself: streams, sizes, aspect, sound, chapters."""

import json
from collections.abc import Iterable
from fractions import Fraction
from typing import TypeVar

from av import VideoFrame
from av.audio.stream import AudioStream
from av.container import InputContainer
from av.stream import Disposition
from av.video.stream import VideoStream

from vidlatent.errors import BadVideo, UsageError
from vidlatent.io.picture.colour import Colour, bit_depth
from vidlatent.io.picture.facts import MOST_SECONDS
from vidlatent.io.picture.info import AudioTrack, Chapter, VideoInfo
from vidlatent.io.picture.mastering import Mastering
from vidlatent.io.picture.orientation import Orientation
from vidlatent.io.picture.timeline import Timeline
from vidlatent.io.read.ffmpeg import positive

T = TypeVar("T")
_KEPT_TAGS = (
    "title",
    "artist",
    "album",
    "comment",
    "copyright",
    "date",
    "description",
    "creation_time",
    "location",
)


_TEXT_BYTES = 1 << 18  # of all tags, and of all chapters, as JSON: a header of latents holds a megabyte
_ANIMATED_IMAGES = ("avis", "msf1", "hevc", "hevx")  # brands


def video_streams(container: InputContainer) -> list[VideoStream]:
    """The video streams, without cover pictures unless there is nothing else.

    An animated AVIF or HEIF holds its first picture once more, as a still: the animation is the video.
    """
    streams = [s for s in container.streams.video if s.codec_context is not None]
    moving = [s for s in streams if not s.disposition & Disposition.attached_pic]
    if container.metadata.get("major_brand") in _ANIMATED_IMAGES:
        moving = [s for s in moving if s.frames > 1] or moving
    return moving or streams


def _refuse_grid(path: str, container: InputContainer) -> None:
    """Raise BadVideo where the streams are tiles of one picture, as in photographs of an iPhone."""
    tiles = [s for s in container.streams.video if s.disposition & Disposition.dependent]
    if tiles:
        raise BadVideo(
            f"{path}: one picture in {len(tiles)} tiles (HEIF or AVIF), which are not put together here",
            "convert it to PNG, TIFF or JPEG first",
        )


def pick_stream(path: str, container: InputContainer, number: int) -> VideoStream:
    """Video stream `number`; raises BadVideo where there is none at all, UsageError where there are fewer."""
    _refuse_grid(path, container)
    streams = video_streams(container)
    if not streams:
        raise BadVideo(f"{path}: no video stream that can be decoded")
    if not 0 <= number < len(streams):
        raise UsageError(f"{path}: no video stream {number}", f"it has {len(streams)}, counted from 0")
    return streams[number]


def describe(  # noqa: PLR0913 - the seven facts that one VideoInfo is made of
    path: str,
    container: InputContainer,
    stream: VideoStream,
    first: VideoFrame,
    orientation: Orientation,
    colour: Colour,
    timeline: Timeline,
) -> VideoInfo:
    """All that is known of a stream once its `first` frame was decoded."""
    width, height = orientation.size(first.width, first.height)
    sar = positive(stream.sample_aspect_ratio) or Fraction(1)
    return VideoInfo(
        path=path,
        container=container.format.name,
        codec=stream.codec_context.name,
        pix_fmt=first.format.name,
        width=width,
        height=height,
        coded_width=stream.codec_context.coded_width,
        coded_height=stream.codec_context.coded_height,
        rotation=orientation.rotation,
        flip=orientation.mirrored,
        sar=1 / sar if orientation.transpose else sar,
        colour=colour,
        bit_depth=bit_depth(first.format),
        time_base=timeline.time_base,
        average_rate=positive(stream.average_rate) or positive(stream.guessed_rate),
        header_frames=stream.frames or None,
        header_duration=_header_duration(container, stream),
        interlaced=first.interlaced_frame,
        audio=tuple(audio_track(s) for s in container.streams.audio),
        video_streams=len(video_streams(container)),
        tags=tags(container, stream),
        chapters=chapters(container),
        mastering=Mastering.of(first),
    )


def stream_duration(stream: VideoStream) -> Fraction | None:
    """The duration of this stream alone, in seconds, by the header; Matroska keeps it in a tag."""
    if stream.duration:
        return stream.duration * stream.time_base
    parts = stream.metadata.get("DURATION", "").split(":")
    try:
        hours, minutes, seconds = (Fraction(part) for part in parts)
    except ValueError:
        return None
    return (hours * 60 + minutes) * 60 + seconds


def _header_duration(container: InputContainer, stream: VideoStream) -> Fraction | None:
    whole = Fraction(container.duration, 1_000_000) if container.duration else None
    return stream_duration(stream) or whole


def unknown_sound(container: InputContainer) -> list[str]:
    """A notice for each sound track of a codec that libav does not know: it cannot be carried along."""
    unknown = [s.index for s in container.streams.audio if s.codec_context is None]
    return [f"sound track {index} is of an unknown codec: left out" for index in unknown]


def audio_track(stream: AudioStream) -> AudioTrack:
    """The facts of one audio stream."""
    context = stream.codec_context
    return AudioTrack(
        index=stream.index,
        codec=context.name if context else "unknown",
        rate=context.sample_rate if context else 0,
        channels=context.channels if context else 0,
        language=stream.language,
        start=stream.start_time * stream.time_base if stream.start_time is not None else None,
    )


def tags(container: InputContainer, stream: VideoStream) -> dict[str, str]:
    """The tags that are carried along, as far as there is room: title, dates, place; the video's language."""
    return dict(_fitting(_known_tags(container, stream).items()))


def _known_tags(container: InputContainer, stream: VideoStream) -> dict[str, str]:
    found = {key.lower(): value for key, value in container.metadata.items()}
    kept = {"language": stream.language} if stream.language and stream.language != "und" else {}
    return kept | {key: found[key] for key in _KEPT_TAGS if found.get(key)}


def chapters(container: InputContainer) -> tuple[Chapter, ...]:
    """The chapters, with their times in seconds, as far as there is room."""
    return tuple(Chapter(*each) for each in _fitting(_known_chapters(container)))


def _known_chapters(container: InputContainer) -> list[tuple[Fraction, Fraction, str]]:
    found = [
        (c["start"] * c["time_base"], c["end"] * c["time_base"], c["metadata"].get("title", ""))
        for c in container.chapters()
        if c["time_base"]
    ]
    return [each for each in found if max(map(abs, each[:2])) <= MOST_SECONDS]


def _fitting(items: Iterable[T]) -> list[T]:
    """Those of `items` that there is room for, in their order."""
    kept, room = [], _TEXT_BYTES
    for item in items:
        size = len(json.dumps(item, default=str))
        if size <= room:
            kept.append(item)
            room -= size
    return kept


def left_out(container: InputContainer, stream: VideoStream) -> list[str]:
    """A notice for tags, and one for chapters, that are too long to be carried along."""
    known, kept = _known_tags(container, stream), tags(container, stream)
    lost = [key for key in known if key not in kept]
    all_chapters, some = sum(bool(c["time_base"]) for c in container.chapters()), len(chapters(container))
    return [
        *([f"tags too long to be carried along: {', '.join(lost)}"] if lost else []),
        *([f"only {some} of {all_chapters} chapters can be carried along"] if some < all_chapters else []),
    ]

"""Opens any video, image or folder of images, to give frames with their own timestamps."""

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO, Protocol, Self

from vidlatent.errors import BadVideo
from vidlatent.io.picture.asked import check_reading
from vidlatent.io.picture.colour import Colour
from vidlatent.io.picture.info import (
    AudioTrack,
    Chapter,
    Frame,
    Picture,
    RawFrames,
    ReadOptions,
    VideoInfo,
    describe_reading,
)
from vidlatent.io.read.ffmpeg import STDIN
from vidlatent.io.read.image_folder import ImageFolder
from vidlatent.io.read.libav import LibavSource
from vidlatent.io.sources.disk import DiskSource, refuse_special
from vidlatent.io.sources.pipe import PipeSource
from vidlatent.io.sources.source import Source, measure_bytes

__all__ = [
    "AudioTrack", "Chapter", "Colour", "Frame", "Picture", "RawFrames", "ReadOptions", "VideoInfo",
    "VideoSource", "check_reading", "describe_reading", "open_video",
]  # fmt: skip


class VideoSource(Protocol):
    """An open video. Use it as a context manager; read its frames once."""

    info: VideoInfo
    notices: list[str]  # what was assumed, repaired or left out; complete once all frames were read

    def frames(self) -> Iterator[Frame]:
        """The frames in order, in bounded memory; raises BadVideo where the video cannot be read further."""
        ...

    def __enter__(self) -> Self: ...

    def __exit__(self, *exc: object) -> None: ...


def open_video(
    source: Source | Path | str, options: ReadOptions | None = None, stream: BinaryIO | None = None
) -> VideoSource:
    """Open a source, or what a path names: a video file, an image, a folder of images, or stdin ("-").

    On stdin, or on a `stream` whose name is `source`, YUV4MPEG or raw frames are read. Raises BadVideo where
    no picture can be read.
    """
    options = options or ReadOptions()
    check_reading(options)
    if isinstance(source, Path | str):
        source = _take_path(source, stream)
    if isinstance(source, DiskSource):
        refuse_special(source)
        if source.path.is_dir():
            return ImageFolder(source.path, options)
    if source.state() is not None and measure_bytes(source) == 0:
        raise BadVideo(f"{source.name}: empty file", "copy or download it again")
    return LibavSource(source, options)


def _take_path(path: Path | str, stream: BinaryIO | None) -> Source:
    """The source that a path names."""
    if stream is not None or str(path) == STDIN:
        return PipeSource(str(path), stream or sys.stdin.buffer)
    return DiskSource(Path(path))

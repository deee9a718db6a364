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
from vidlatent.io.read.ffmpeg import STDIN, refuse_special
from vidlatent.io.read.image_folder import ImageFolder
from vidlatent.io.read.libav import LibavSource

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
    path: Path | str, options: ReadOptions | None = None, stream: BinaryIO | None = None
) -> VideoSource:
    """Open a video file, an image, a folder of images, or YUV4MPEG (or raw frames) on stdin ("-").

    With a `stream` YUV4MPEG or raw frames are read from it, and `path` is its name. Raises BadVideo where no
    picture can be read.
    """
    options = options or ReadOptions()
    check_reading(options)
    if stream is not None or str(path) == STDIN:
        return LibavSource(str(path), options, stream or sys.stdin.buffer)
    refuse_special(path)
    if Path(path).is_dir():
        return ImageFolder(Path(path), options)
    if Path(path).exists() and Path(path).stat().st_size == 0:
        raise BadVideo(f"{path}: empty file")
    return LibavSource(str(path), options)

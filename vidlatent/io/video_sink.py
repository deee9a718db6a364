"""Frames in, a video file (or a folder of PNG, or YUV4MPEG on stdout) out, every frame at its own time."""

from fractions import Fraction
from pathlib import Path
from typing import Protocol, Self

import numpy as np

from vidlatent.errors import UsageError
from vidlatent.io.movie_sink import FORMATS, MovieSink
from vidlatent.io.png_sink import PngFolderSink
from vidlatent.io.sink_options import SinkOptions
from vidlatent.io.video_info import Picture
from vidlatent.io.y4m_sink import Y4mSink

__all__ = ["SinkOptions", "VideoSink", "open_sink"]

STDOUT = "-"


class VideoSink(Protocol):
    """A video being written. Nothing appears at its path until the context is left without an error."""

    notices: list[str]  # what could not be kept as it was

    def write(self, rgb: np.ndarray, pts: int, duration: int) -> None:
        """Add a frame: RGB [H, W, 3], uint8 or uint16 over 0..65535, at `pts` in the picture's time base."""
        ...

    def __enter__(self) -> Self: ...

    def __exit__(self, *exc: object) -> None: ...


def open_sink(
    path: Path | str,
    picture: Picture,
    audio: Path | None = None,
    options: SinkOptions | None = None,
    origin: Fraction = Fraction(0),
) -> VideoSink:
    """A sink for `path`, chosen by its name.

    .mp4 .mov .mkv .webm are films; a name ending in .png, an existing folder or a name ending in "/" is a
    folder of PNG files; "-" is YUV4MPEG on stdout. `audio` is a file that copy_audio made. The time `origin`
    of the picture's clock (seconds) becomes zero: give the first frame's time where a clip was cut.
    """
    options = options or SinkOptions()
    if str(path) == STDOUT:
        return Y4mSink(picture, options)
    target = Path(path)
    if str(path).endswith("/") or target.is_dir() or target.suffix.lower() == ".png":
        return PngFolderSink(target, picture)
    if target.suffix.lower() not in FORMATS:
        known = " ".join(FORMATS)
        raise UsageError(
            f"{path}: cannot tell what to write from this name", f"known are {known}, .png and -"
        )
    return MovieSink(target, picture, audio, options, origin)

"""Opens a sink for frames: a film, a folder of images, or YUV4MPEG on stdout."""

from fractions import Fraction
from pathlib import Path
from typing import Protocol, Self

import numpy as np

from vidlatent.errors import UsageError, parameter
from vidlatent.io.file_parts import FilePart
from vidlatent.io.journal import Making
from vidlatent.io.picture.info import Picture
from vidlatent.io.write import images as image_sink
from vidlatent.io.write.encoders import SinkOptions, check_settings
from vidlatent.io.write.images import ImageSink
from vidlatent.io.write.movie import FORMATS, MovieSink
from vidlatent.io.write.y4m import Y4mSink

__all__ = ["SinkOptions", "VideoSink", "check_target", "open_sink"]

STDOUT = "-"
IMAGES = {".png": "png", ".tif": "tiff", ".tiff": "tiff"}


class VideoSink(Protocol):
    """A video that is being written. Its path exists only once the context was left without an error."""

    notices: list[str]  # what could not be kept as it was

    def write(self, rgb: np.ndarray, pts: int, duration: int) -> None:
        """Add a frame: RGB [H, W, 3], uint8 or uint16 over 0..65535, at `pts` in the picture's time base."""
        ...

    def __enter__(self) -> Self: ...

    def __exit__(self, *exc: object) -> None: ...


def open_sink(
    path: Path | str,
    picture: Picture,
    audio: Path | FilePart | None = None,
    options: SinkOptions | None = None,
    origin: Fraction = Fraction(0),
    making: Making | None = None,
) -> VideoSink:
    """A sink for `path`, chosen by its name.

    .mp4 .mov .mkv .webm are films. A name that ends in .png, .tiff or "/", or an existing folder, is a folder
    of images. "-" is YUV4MPEG on stdout. `audio` is a file that `copy_audio` made, or such a file inside
    another. The time `origin` of the picture's clock, in seconds, becomes zero: give the first frame's time
    where a clip was cut. `making` says how frames of a folder are made: see `ImageSink`.
    """
    options = options or SinkOptions()
    if str(path) == STDOUT:
        return Y4mSink(picture, options)
    target = Path(path)
    if is_folder(path):
        return ImageSink(target, picture, image_kind(target, options), options.square_pixels, making)
    _check_film(target, options)
    return MovieSink(target, picture, audio, options, origin)


def check_target(path: Path | str, picture: Picture, options: SinkOptions) -> None:
    """Raise UsageError where `open_sink` could not write these pictures as asked; nothing is opened."""
    target = Path(path)
    if str(path) == STDOUT:
        return
    if is_folder(path):
        image_kind(target, options)
        return
    _check_film(target, options)
    check_settings(options.codec or FORMATS[target.suffix.lower()].codec_for(picture), options)


def _check_film(target: Path, options: SinkOptions) -> None:
    if target.suffix.lower() not in FORMATS:
        known = " ".join((*FORMATS, *IMAGES))
        raise UsageError(
            f"{target}: cannot tell what to write from this name", f"known are {known}, a folder/ and -"
        )
    if options.images is not None:
        raise UsageError(
            f"{parameter('images')} {options.images}: {target} is no folder of images",
            "name a folder, frames/",
        )


def is_folder(path: Path | str) -> bool:
    """Whether this name asks for a folder of images."""
    return str(path).endswith("/") or Path(path).is_dir() or Path(path).suffix.lower() in IMAGES


def image_kind(folder: Path, options: SinkOptions) -> str:
    """The format of the images in `folder`: the one asked for, else the one in its name, else PNG."""
    kind = options.images or IMAGES.get(folder.suffix.lower(), "png")
    if kind not in image_sink.FORMATS:
        raise UsageError(f"{parameter('images')} {kind}: unknown", f"one of {', '.join(image_sink.FORMATS)}")
    return kind

"""How a video is to be written; what is None is chosen by the container and the source."""

from dataclasses import dataclass


@dataclass(frozen=True)
class SinkOptions:
    """Encoder settings. `square_pixels` scales the width so that pixels become square.

    `images` is the format of a folder's images, "png" or "tiff"; None: as its name says, else PNG.
    """

    codec: str | None = None
    crf: float | None = None
    preset: str | None = None
    pix_fmt: str | None = None
    square_pixels: bool = False
    images: str | None = None
